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
// message any more (trimmed exactly there) is fine; one that ends before it, or before
// what the replica has noted to be safe, has lost what it acknowledged, and is refused.
func (t *Tail) Replay(ctx context.Context) error {
	state, err := t.cfg.Log.State(ctx)
	if err != nil {
		return err
	}
	marks := t.Marks()
	start := t.LastSequence() + 1
	noted, notedSeq := t.cfg.Replica.NotedSafe()
	switch {
	case state.Last+1 < start:
		return t.lostTail(ctx, state, "the copy here was checkpointed", marks.Logged, start-1)
	case state.Last < notedSeq:
		return t.lostTail(ctx, state, "it was known to be safe", noted, notedSeq)
	}
	if err := t.checkReplayed(ctx, state, start-1, marks.Logged); err != nil {
		return err
	}
	t.setReplaying(true)
	defer t.setReplaying(false)
	err = t.cfg.Log.ReadTo(ctx, start, state.Last, t.replayer(ctx, marks.Logged))
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	t.noteReplayed()
	return nil
}

func (t *Tail) setReplaying(now bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.replaying = now
}

func (t *Tail) isReplaying() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.replaying
}

// replayer returns what takes the messages that continue previous, in order.
func (t *Tail) replayer(ctx context.Context, previous events.Mark) func(bus.Message) error {
	return func(m bus.Message) error {
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
	}
}

// repair says what to do about a journal that is not the one that a copy is of.
const repair = "bring back the newer files of the journal, or promote the copy of another site, or give the lost part up: at the primary with \"tidemark journal reset\", at a replica with \"tidemark mirror resync\""

// lostTail says what a log lacks that ends before something else says that it reached.
func (t *Tail) lostTail(ctx context.Context, state bus.State, said string, until events.Mark, sequence uint64) error {
	ends := "is empty"
	if state.Last >= state.First {
		if end, err := t.trimmer.markAt(ctx, state.Last); err == nil {
			ends = fmt.Sprintf("ends at %v", end.Position)
		}
	}
	return fmt.Errorf("journal %s %s (message %d), but %s at %v (message %d): %w; %s",
		t.cfg.Log.Name(), ends, state.Last, said, until.Position, sequence, ErrLostTail, repair)
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
		return fmt.Errorf("message %d of journal %s ends at %v (chain %v), where the copy here was checkpointed at %v (chain %v): %w; %s",
			seq, t.cfg.Log.Name(), found.Position, found.Chain, mark.Position, mark.Chain, ErrDiverged, repair)
	}
	return nil
}
