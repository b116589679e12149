package holder

import (
	"context"
	"testing"

	"tidemark/events"
	"tidemark/internal/fault"
)

// A comparison that meets the end of its source is told that it is not ready, and asks whoever
// serves the copy next; one that takes too long is told that.
func TestAnswerThatIsCutShort(t *testing.T) {
	v := verifier{source: SyncSource{
		Copy:      Copy{Name: events.DirectoryName{Pool: "vms", Path: "/prod"}},
		Followers: allowing{}, Complete: func() bool { return true },
	}} // without a slot: everybody waits
	stopped, stop := context.WithCancel(t.Context())
	stop()
	late, done := context.WithTimeout(t.Context(), 0)
	defer done()
	for want, ctx := range map[fault.Code]context.Context{fault.NotReady: stopped, fault.Timeout: late} {
		if _, err := v.admit(ctx, "site"); fault.CodeOf(err) != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
