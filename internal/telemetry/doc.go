// Package telemetry is how a Tidemark process shows itself: its log, its metrics, and
// an HTTP server with health, readiness and a page for people.
//
// Nothing is global: the process makes one logger and one registry and hands them to
// its parts.
package telemetry
