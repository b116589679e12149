package tail

import (
	"context"
	"time"
)

// Rates of heads: at most one every headGap, at least one every headAge.
const (
	headGap = 5 * time.Millisecond
	headAge = time.Second
)

// Heads calls send whenever a mark that followers care about has moved, and once a
// second, until ctx ends. A head that is lost is made up for by the next.
func (t *Tail) Heads(ctx context.Context, send func(Marks)) error {
	var sent Marks
	age := time.NewTicker(headAge)
	defer age.Stop()
	for {
		changed := t.Changed()
		marks := t.Marks()
		if marks.Safe.Position != sent.Safe.Position || marks.Applied.Position != sent.Applied.Position {
			send(marks)
			sent = marks
			pause(ctx, headGap)
		}
		select {
		case <-changed:
		case <-age.C:
			send(t.Marks())
		case <-ctx.Done():
			return nil
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
