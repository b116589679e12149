package tail

import (
	"context"
	"fmt"

	"tidemark/events"
	"tidemark/internal/bus"
)

// Replay reads the log from the last checkpoint to its present end and hands every
// message to the tail, which demands that each continues the one before. It returns
// when the last one is handed over. A log that does not hold the checkpoint's own
// message any more (trimmed exactly there) is fine; one that ends before it has lost
// what it acknowledged, and is refused.
func (t *Tail) Replay(ctx context.Context) error {
	state, err := t.cfg.Log.State(ctx)
	if err != nil {
		return err
	}
	marks := t.Marks()
	start := t.LastSequence() + 1
	if state.Last+1 < start {
		return fmt.Errorf("journal %s ends at message %d, but its message %d was checkpointed at %v: %w",
			t.cfg.Log.Name(), state.Last, start-1, marks.Logged.Position, ErrLostTail)
	}
	if err := t.checkReplayed(ctx, state, start-1, marks.Logged); err != nil {
		return err
	}
	previous := marks.Logged
	err = t.cfg.Log.ReadTo(ctx, start, state.Last, func(m bus.Message) error {
		message, err := events.DecodeJournal(m.Data)
		if err != nil {
			return fmt.Errorf("message %d of journal %s: %w", m.Sequence, t.cfg.Log.Name(), err)
		}
		if !message.Follows(previous) {
			return fmt.Errorf("message %d of journal %s does not continue %v: %w",
				m.Sequence, t.cfg.Log.Name(), previous.Position, ErrDiverged)
		}
		previous = message.Ends()
		if err := t.Room(ctx, len(m.Data)); err != nil {
			return err
		}
		t.Logged(message, m.Sequence, len(m.Data))
		t.Return(len(m.Data))
		return nil
	})
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	return nil
}

// checkReplayed refuses a log whose message at seq, where it still holds one, is not
// the one that ends at mark: it was rolled back and went on otherwise. A replica that
// was filled by a first sync has no message yet.
func (t *Tail) checkReplayed(ctx context.Context, state bus.State, seq uint64, mark events.Mark) error {
	if seq == 0 || seq < state.First {
		return nil
	}
	found, err := t.trimmer.markAt(ctx, seq)
	switch {
	case err != nil:
		return err
	case !found.Same(mark):
		return fmt.Errorf("message %d of journal %s ends at %v under another chain than the copy at %v: %w",
			seq, t.cfg.Log.Name(), found.Position, mark.Position, ErrDiverged)
	}
	return nil
}
