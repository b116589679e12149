package holder

import (
	"context"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/replica"
)

// OpenJournal opens the journal of a copy, after replacing it by an empty one if the copy
// was rewound and that was not done yet. Doing it again after a crash changes nothing.
func OpenJournal(ctx context.Context, b *bus.Bus, r *replica.Replica, s events.Stream) (*bus.Log, error) {
	anew := r.NewJournal()
	if anew {
		if err := b.RemoveLog(ctx, s.Name); err != nil {
			return nil, err
		}
	}
	log, err := b.OpenLog(ctx, s)
	if err == nil && anew {
		err = r.JournalReplaced()
	}
	return log, err
}
