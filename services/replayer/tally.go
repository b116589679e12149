package replayer

import (
	"errors"

	"tidemark/internal/fault"
)

// failsAfter is how many tries to follow must fail, one after the other, for a directory to
// have failed: about ten seconds.
const failsAfter = 10

// tally counts how often a directory has failed and recovered since this node holds it. A
// failure counts once, not at each try.
type tally struct {
	failures, recoveries uint64
	tries                int // that failed in a row
	failing              bool
}

// failed notes that a try to follow failed. What the source asks to wait for is no failure,
// nor is what an operator turned off; what only an operator can help with is one at once.
func (t *tally) failed(err error) {
	code := fault.CodeOf(err)
	_, _, lasts := stuck(err)
	lasts = lasts || errors.Is(err, errDisconnected)
	if t.failing || errors.Is(err, errSwitchedOff) || !lasts && (code == fault.Busy || code == fault.NotReady) {
		return
	}
	if t.tries++; lasts || t.tries >= failsAfter {
		t.failing = true
		t.failures++
	}
}

// follows notes that the directory is followed.
func (t *tally) follows() {
	if t.failing {
		t.recoveries++
	}
	t.tries, t.failing = 0, false
}

func (f *follower) failed(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tally.failed(err)
}
