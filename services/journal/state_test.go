package journal

import (
	"slices"
	"strings"
	"testing"
)

// journalStates is the table of doc.go: from each state, where it may lead.
const journalStates = `
closed     opening
opening    replaying restarting failed fenced closing
replaying  flushing restarting failed fenced closing
flushing   ready restarting failed fenced closing
ready      importing stopping restarting failed fenced
importing  ready stopping restarting failed fenced
stopping   closing
closing    closed
restarting opening closing
failed     opening closing
fenced     closing
`

// journal 89: every pair of states is allowed or is not, as the table says.
func TestTransitions(t *testing.T) {
	may := map[string][]string{}
	var states []string
	for line := range strings.SplitSeq(strings.TrimSpace(journalStates), "\n") {
		fields := strings.Fields(line)
		states = append(states, fields[0])
		may[fields[0]] = fields[1:]
	}
	for _, from := range states {
		for _, to := range states {
			got, err := next(State(from), State(to))
			if allowed := slices.Contains(may[from], to); allowed != (err == nil) {
				t.Errorf("from %s to %s: %v", from, to, err)
			} else if allowed && got != State(to) || !allowed && got != State(from) {
				t.Errorf("from %s to %s led to %s", from, to, got)
			}
		}
	}
	for i, want := range []State{Restarting, Restarting, Restarting, Restarting, Failed, Failed} {
		if got := afterFailure(i + 1); got != want {
			t.Errorf("after %d failures in a row: %s", i+1, got)
		}
	}
	for _, state := range states {
		serves := state == "ready" || state == "importing"
		broken := state == "restarting" || state == "failed" || state == "fenced"
		if s := State(state); s.serves() != serves || s.broken() != broken {
			t.Errorf("%s: serves %v, broken %v", s, s.serves(), s.broken())
		}
	}
}
