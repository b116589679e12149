//go:build race

package sitetest

// RaceDetector reports whether the tests run under the race detector.
const RaceDetector = true
