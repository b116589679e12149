// Package telemetry is how a Tidemark process shows itself: its log, its metrics, and
// an HTTP server with health, readiness, a page about the process, and the dashboard where
// there is one.
//
// Nothing is global: the process makes one logger and one registry and hands them to
// its parts.
package telemetry
