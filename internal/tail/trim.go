package tail

import (
	"context"
	"errors"
	"fmt"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/natsd"
)

// trimStep is how many bytes of entries must have become superfluous before the log is
// trimmed again: a purge unlinks whole blocks, smaller steps free nothing.
const trimStep = 16 << 20

// trimmer drops the head of the log. The log's own messages are the only index: the
// cut is found by bisection.
type trimmer struct {
	log   *bus.Log
	below func() events.Position
	// bytes is the history's byte count at the last cut.
	bytes uint64
	// needed is what the clients needed at the last look.
	needed events.Position
}

// moved reports whether the clients need less than at the last look.
func (t *trimmer) moved() bool { return t.below != nil && t.below() > t.needed }

// trim drops what lies below every consumer's commit position, and at least
// [natsd.TrimSlack] behind this replica's own checkpoint.
func (t *trimmer) trim(ctx context.Context, committed events.Mark) error {
	if t.below == nil {
		return nil
	}
	t.needed = t.below()
	if committed.Bytes < t.bytes+natsd.TrimSlack+trimStep {
		return nil
	}
	limit := min(t.needed, committed.Position)
	state, err := t.log.State(ctx)
	if err != nil {
		return err
	}
	// Invariant: every message below first may go, those from end on must stay.
	first, end := state.First, state.Last+1
	var cut events.Mark
	for first < end {
		middle := first + (end-first)/2
		mark, err := t.markAt(ctx, middle)
		if err != nil {
			return err
		}
		if mark.Position <= limit && mark.Bytes+natsd.TrimSlack <= committed.Bytes {
			first, cut = middle+1, mark
		} else {
			end = middle
		}
	}
	if cut.Bytes < t.bytes+trimStep {
		return nil
	}
	if err := t.log.Trim(ctx, first); err != nil {
		return err
	}
	t.bytes = cut.Bytes
	return nil
}

// BetweenTrims calls f while the log is not trimmed, with the position behind which the
// log holds everything, and returns its error: a consumer that f makes known at or behind
// that position is heeded by the next trim.
func (t *Tail) BetweenTrims(ctx context.Context, f func(begins events.Position) error) error {
	t.trimming.Lock()
	defer t.trimming.Unlock()
	begins, err := t.begins(ctx)
	if err != nil {
		return err
	}
	return f(begins)
}

// Begins returns the position behind which the log holds everything.
func (t *Tail) Begins(ctx context.Context) (events.Position, error) {
	t.trimming.Lock()
	defer t.trimming.Unlock()
	return t.begins(ctx)
}

// begins is called between trims.
func (t *Tail) begins(ctx context.Context) (events.Position, error) {
	logged := t.Marks().Logged.Position
	state, err := t.cfg.Log.State(ctx)
	if err != nil || state.Last < state.First {
		return logged, err
	}
	m, err := t.cfg.Log.Get(ctx, state.First)
	if err != nil {
		return 0, err
	}
	message, err := events.DecodeJournal(m.Data)
	if err != nil {
		return 0, fmt.Errorf("message %d: %w", state.First, err)
	}
	begins, _ := message.Continues()
	return begins, nil
}

func (t *trimmer) markAt(ctx context.Context, seq uint64) (events.Mark, error) {
	m, err := t.log.Get(ctx, seq)
	if err != nil {
		return events.Mark{}, err
	}
	message, err := events.DecodeJournal(m.Data)
	if err != nil {
		return events.Mark{}, fmt.Errorf("message %d: %w", seq, err)
	}
	return message.Ends(), nil
}

// Find returns the sequence of the message that continues a history which ends at mark. A
// sequence one behind the log's end means that the log ends at mark.
//
// [ErrTrimmed]: the log begins later. [ErrDiverged]: it holds another history, or, with
// [ErrAhead], one that may be the same and is shorter.
func Find(ctx context.Context, log *bus.Log, mark events.Mark) (uint64, error) {
	for {
		state, err := log.State(ctx)
		if err != nil {
			return 0, err
		}
		seq, err := findIn(ctx, log, state, mark)
		if !errors.Is(err, bus.ErrNotFound) {
			return seq, err
		}
		now, stateErr := log.State(ctx)
		if stateErr != nil || now.First == state.First {
			return 0, err
		}
		// It was trimmed meanwhile.
	}
}

func findIn(ctx context.Context, log *bus.Log, state bus.State, mark events.Mark) (uint64, error) {
	t := &trimmer{log: log}
	first, end := state.First, state.Last+1
	for first < end { // the first message that ends behind mark
		middle := first + (end-first)/2
		m, err := t.markAt(ctx, middle)
		if err != nil {
			return 0, err
		}
		if m.Position <= mark.Position {
			first = middle + 1
		} else {
			end = middle
		}
	}
	return first, t.connects(ctx, state, first, mark)
}

// FirstAfter returns the message that continues a history which ends at mark: see
// [Find]. It is an error if there is none yet.
func FirstAfter(ctx context.Context, log *bus.Log, mark events.Mark) (events.JournalMessage, error) {
	seq, err := Find(ctx, log, mark)
	if err != nil {
		return nil, err
	}
	m, err := log.Get(ctx, seq)
	if err != nil {
		return nil, err
	}
	return events.DecodeJournal(m.Data)
}

func (t *trimmer) connects(ctx context.Context, state bus.State, seq uint64, mark events.Mark) error {
	if seq > state.First {
		found, err := t.markAt(ctx, seq-1)
		switch {
		case err != nil:
			return err
		case found.Position < mark.Position && seq > state.Last:
			return fmt.Errorf("the log ends at %v, the other copy at %v: %w: %w", found.Position, mark.Position, ErrAhead, ErrDiverged)
		case !found.Same(mark):
			return fmt.Errorf("at %v, where the other copy ends: %w", mark.Position, ErrDiverged)
		}
		return nil
	}
	if seq > state.Last {
		return nil // an empty log: nothing contradicts
	}
	m, err := t.log.Get(ctx, seq)
	if err != nil {
		return err
	}
	message, err := events.DecodeJournal(m.Data)
	if err != nil {
		return err
	}
	if message.Follows(mark) {
		return nil
	}
	if from, _ := message.Continues(); from > mark.Position {
		return fmt.Errorf("the log begins at message %d, behind %v: %w", seq, mark.Position, ErrTrimmed)
	}
	return fmt.Errorf("the log begins at message %d with another history than the copy at %v: %w", seq, mark.Position, ErrDiverged)
}

// ErrAhead is returned when a log ends before a mark. Whether that is of the same history,
// only the log that the mark is from can tell.
var ErrAhead = errors.New("the other copy is ahead of the journal")

// ErrFenced is returned where the log does not take the word of who held a directory any
// more: another may hold it now.
var ErrFenced = errors.New("another node may hold the directory")

// ErrTrimmed is returned when a log no longer holds what would continue a history.
var ErrTrimmed = errors.New("the journal was trimmed past that position")
