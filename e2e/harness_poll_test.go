package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	// patience is the bound of every wait that has none of its own: generous, because
	// the machine may be busy.
	patience = 90 * time.Second
	pollTime = 100 * time.Millisecond
	fastPoll = 5 * time.Millisecond
)

// await polls until ok returns nil; its last error fails the test at the deadline.
func await(t testing.TB, limit time.Duration, what string, ok func() error) {
	t.Helper()
	awaitEvery(t, pollTime, limit, what, ok)
}

func awaitEvery(t testing.TB, every, limit time.Duration, what string, ok func() error) {
	t.Helper()
	tick := time.NewTicker(every)
	defer tick.Stop()
	deadline := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		<-tick.C
	}
}

// unless returns an error with the format's text if ok is false: what a wait is still
// waiting for.
func unless(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func contains(s, part string) bool { return strings.Contains(s, part) }
