package holder

import (
	"context"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/replica"
)

// OpenJournal opens the journal of a copy that is held under a tenure, after replacing it by
// an empty one if the copy was rewound, or took another's place, and that was not done yet.
// Doing it again after a crash changes nothing.
func (t *Tenure) OpenJournal(ctx context.Context, r *replica.Replica, s events.Stream) (*bus.Log, error) {
	if !r.NewJournal() {
		return t.bus.OpenLog(ctx, s)
	}
	log, err := t.ReplaceJournal(ctx, s)
	if err == nil {
		err = r.JournalReplaced()
	}
	return log, err
}

// ReplaceJournal drops the journal of a directory that is held under the tenure, and opens an
// empty one; [tail.ErrFenced], and nothing is dropped, if the tenure has ended: a successor may
// write to the journal by now.
//
// JetStream has no deletion on a condition, so the tenure is looked at last: a process that is
// stopped for longer than its node's silence exactly between the answer to that and its next
// request still drops what its successor has.
func (t *Tenure) ReplaceJournal(ctx context.Context, s events.Stream) (*bus.Log, error) {
	if err := t.Check(ctx); err != nil {
		return nil, err
	}
	if err := t.bus.RemoveLog(ctx, s.Name); err != nil {
		return nil, err
	}
	return t.bus.OpenLog(ctx, s)
}
