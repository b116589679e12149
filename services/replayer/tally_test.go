package replayer

import (
	"errors"
	"testing"

	"tidemark/internal/fault"
	"tidemark/internal/tail"
)

// directories 71-73, 78: a failure counts once, when it lasts, and its end as a recovery; what
// is waited for is none.
func TestTally(t *testing.T) {
	gone, busy := fault.New(fault.NotFound, "there is no directory vms/db"), fault.New(fault.Busy, "it is being opened")
	diverged := tail.ErrDiverged
	type step struct {
		err                  error // nil: it is followed
		times                int
		failures, recoveries uint64
	}
	for name, steps := range map[string][]step{
		"directories 71 nothing happens":      {{nil, 1, 0, 0}},
		"a link that comes back":              {{errLost, failsAfter - 1, 0, 0}, {nil, 1, 0, 0}, {errLost, failsAfter - 1, 0, 0}},
		"directories 72 it is not there":      {{gone, failsAfter - 1, 0, 0}, {gone, 1, 1, 0}, {gone, 100, 1, 0}},
		"directories 73 it is there at last":  {{gone, failsAfter, 1, 0}, {nil, 2, 1, 1}, {gone, failsAfter, 2, 1}, {nil, 1, 2, 2}},
		"directories 78 the source is busy":   {{busy, 100, 0, 0}, {nil, 1, 0, 0}},
		"it is turned off":                    {{errSwitchedOff, 100, 0, 0}},
		"busy does not hide a failure":        {{gone, failsAfter - 1, 0, 0}, {busy, 5, 0, 0}, {gone, 1, 1, 0}, {busy, 5, 1, 0}},
		"what only an operator can help with": {{diverged, 1, 1, 0}, {diverged, 5, 1, 0}, {nil, 1, 1, 1}},
		"any other error":                     {{errors.New("no"), failsAfter, 1, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			var o tally
			for i, s := range steps {
				for range s.times {
					if s.err == nil {
						o.follows()
					} else {
						o.failed(s.err)
					}
				}
				if o.failures != s.failures || o.recoveries != s.recoveries {
					t.Errorf("step %d: %d failures and %d recoveries, want %d and %d", i, o.failures, o.recoveries, s.failures, s.recoveries)
				}
			}
		})
	}
}
