package sitetest

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"
)

const (
	// Patience bounds the wait for what must come. It is never waited out unless there is a
	// defect, so it is long: others may use the machine.
	Patience = 2 * time.Minute
	// NumbersVariable asks for figures: limits are then meant as they are.
	NumbersVariable = "TIDEMARK_NUMBERS"
	// RaceVariable holds the settings of the race detector.
	RaceVariable = "GORACE"
	// crowded is how many times as long things may take where nobody asks for figures.
	crowded = 10
	// raceRounds is the part of a random course's rounds that the race detector sees.
	raceRounds = 8
)

// Rounds returns how many of n rounds of a random course to take: all of them, or a part
// under the race detector. That makes each several times slower, and looks for what most
// rounds have in common.
func Rounds[N ~int | ~uint64](n N) N {
	if RaceDetector {
		return (n + raceRounds - 1) / raceRounds
	}
	return n
}

// SideBySide lets a number of parallel tests run at a time for each processor, unless
// -parallel says otherwise: tests of sites wait for links, disks and retries far more than
// they compute. Under the race detector, where they compute more, it is fewer. TestMain
// calls it.
func SideBySide(perProcessor int) error {
	flag.Parse()
	parallel := flag.Lookup("test.parallel")
	if parallel.Value.String() != parallel.DefValue {
		return nil
	}
	if RaceDetector {
		perProcessor = (perProcessor + 1) / 2
	}
	return parallel.Value.Set(strconv.Itoa(perProcessor * runtime.GOMAXPROCS(0)))
}

// EndAtOnce lets the programs that tests run, built like the tests, end as soon as they are
// done: under the race detector each would sleep for a second first, to see whether anything
// still runs. TestMain calls it.
func EndAtOnce() error {
	if !RaceDetector {
		return nil
	}
	return os.Setenv(RaceVariable, os.Getenv(RaceVariable)+" atexit_sleep_ms=0")
}

// Prompt fails the test if something that began at a time took longer than its limit. On a
// machine that others use it fails only what took ten times as long, which still tells what
// is prompt from what waits for something; [NumbersVariable] asks for the limit itself.
func Prompt(t testing.TB, what string, began time.Time, limit time.Duration) {
	t.Helper()
	Within(t, what, time.Since(began), limit)
}

// Within is [Prompt] for a time that was measured.
func Within(t testing.TB, what string, took, limit time.Duration) {
	t.Helper()
	t.Logf("%s: %s, at most %s are wanted", what, took.Round(time.Millisecond), limit)
	if os.Getenv(NumbersVariable) == "" {
		limit *= crowded
	}
	if took > limit {
		t.Errorf("%s: it took %s, at most %s are allowed", what, took.Round(time.Millisecond), limit)
	}
}
