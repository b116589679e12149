package tail

import (
	"context"

	"tidemark/events"
	"tidemark/internal/bus"
)

// Ending returns the message that a history up to mark ends with; nil if the log begins
// right behind it. Errors are those of [Find].
func Ending(ctx context.Context, log *bus.Log, mark events.Mark) (events.JournalMessage, error) {
	seq, err := Find(ctx, log, mark)
	if err != nil {
		return nil, err
	}
	state, err := log.State(ctx)
	if err != nil || seq <= state.First {
		return nil, err
	}
	m, err := log.Get(ctx, seq-1)
	if err != nil {
		return nil, err
	}
	return events.DecodeJournal(m.Data)
}
