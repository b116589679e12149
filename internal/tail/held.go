package tail

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
)

// A follower may be told to apply each message some time after it was written. Messages are
// logged, synced and counted as ever, but those that are not due are not kept in memory:
//
//	Logged ──> log ┄┄ due ┄┄> read again ──> queue ──Apply──> …
//
// What is due is noted durably before it is queued ([replica.Replica.NoteDue]): so it is known
// after a crash what the files may hold parts of, and nothing else is applied early. While
// there is no delay nothing is noted, and messages go to the queue at once.

const (
	// heldStep is how long after a message is due it is read at the latest: what has become
	// due by then is read, noted and queued together.
	heldStep = 100 * time.Millisecond
	// heldBytes is how much is noted and queued at a time, in bytes.
	heldBytes = 4 << 20
)

// errNotDue ends the reading of what is held back.
var errNotDue = errors.New("the rest is not due yet")

// holding is what is held back.
type holding struct {
	on   bool   // what is logged is held back, until it is read from the log
	next uint64 // sequence of the first message that was not queued
	due  uint64 // up to this sequence messages are due whatever their time
}

// holdLoop holds messages back as long as there is a delay, and queues them when they are due.
func (t *Tail) holdLoop(ctx context.Context) error {
	select {
	case <-t.replayed: // the log was checked to its end, and what must be replayed is known
	case <-ctx.Done():
		return nil
	}
	for ctx.Err() == nil {
		delay, changed := t.cfg.Delay()
		held := t.held()
		var err error
		switch {
		case !held.on && delay > 0:
			err = t.hold()
		case !held.on:
			await(ctx, nil, changed)
		case held.next > t.LastSequence() && delay == 0:
			err = t.holdNoMore()
		case held.next > t.LastSequence():
			await(ctx, nil, changed, t.heldMore)
		default:
			err = t.queueDue(ctx, delay, changed)
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("hold back: %w", err)
		}
	}
	return nil
}

// await returns when a timer, which may be nil, or one of the channels says so, or ctx ends.
func await(ctx context.Context, timer <-chan time.Time, signals ...<-chan struct{}) {
	first, second := signals[0], signals[len(signals)-1]
	select {
	case <-timer:
	case <-first:
	case <-second:
	case <-ctx.Done():
	}
}

func (t *Tail) held() holding {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.holding
}

// hold begins to hold back: what is queued already is applied, nothing else is before it is
// noted.
func (t *Tail) hold() error {
	t.mu.Lock()
	t.holding = holding{on: true, next: t.lastSeq + 1, due: t.lastSeq}
	noted := t.lastSeq
	t.mu.Unlock()
	return t.cfg.Replica.NoteDue(noted)
}

// holdNoMore ends it, unless something is held back.
func (t *Tail) holdNoMore() error {
	if err := t.cfg.Replica.ForgetDue(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holding.on = t.holding.next <= t.lastSeq
	return nil
}

// holdNothing makes everything due that was logged so far, and returns its last sequence.
func (t *Tail) holdNothing() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holding.due = max(t.holding.due, t.lastSeq)
	signal(t.heldMore)
	return t.lastSeq
}

// noteReplayed notes that the log was read to its end.
func (t *Tail) noteReplayed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.replayTo = t.lastSeq
	if t.holding.on {
		t.replayTo = min(t.lastSeq, t.holding.due)
	}
	select {
	case <-t.replayed:
	default:
		close(t.replayed)
	}
}

func (t *Tail) replayedTo() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.replayTo
}

// queueDue waits until the first message that is held back is due, and queues it and what is
// due behind it.
func (t *Tail) queueDue(ctx context.Context, delay time.Duration, changed <-chan struct{}) error {
	h := release{tail: t, delay: delay, reach: t.cfg.Replica.Reach()}
	from := t.held().next
	m, err := t.cfg.Log.Get(ctx, from)
	if err != nil {
		return err
	}
	message, err := events.DecodeJournal(m.Data)
	if err != nil {
		return fmt.Errorf("message %d: %w", from, err)
	}
	if wait := h.wait(message, from); wait > 0 {
		timer := time.NewTimer(wait + heldStep)
		defer timer.Stop()
		await(ctx, timer.C, changed, t.heldMore)
		return nil
	}
	err = t.cfg.Log.ReadTo(ctx, from, t.LastSequence(), func(m bus.Message) error { return h.take(ctx, m) })
	if err == nil || errors.Is(err, errNotDue) {
		err = h.queue()
	}
	h.giveBack()
	return err
}

// release is one reading of what is due.
type release struct {
	tail  *Tail
	delay time.Duration
	// reach is how far a first sync has to be replayed before the copy can be used: that far
	// everything is due.
	reach events.Position
	items []item // read, and not queued yet
	bytes int    // of those; room for them is reserved
}

// wait returns how long it is until a message is due. The source's clock wrote the time.
func (h *release) wait(m events.JournalMessage, seq uint64) time.Duration {
	if seq <= h.tail.held().due || begins(m) <= h.reach {
		return 0
	}
	return time.Until(m.Ends().Time.Time().Add(h.delay))
}

// begins returns the position of a message's first entry.
func begins(m events.JournalMessage) events.Position {
	if b, ok := m.(*events.Batch); ok {
		return b.Position(0)
	}
	return m.Ends().Position
}

// take takes a message that is due.
func (h *release) take(ctx context.Context, m bus.Message) error {
	message, err := events.DecodeJournal(m.Data)
	if err != nil {
		return fmt.Errorf("message %d: %w", m.Sequence, err)
	}
	if h.wait(message, m.Sequence) > 0 {
		return errNotDue
	}
	if h.bytes >= heldBytes {
		if err := h.queue(); err != nil {
			return err
		}
	}
	if err := h.tail.Room(ctx, len(m.Data)); err != nil {
		return err
	}
	h.items, h.bytes = append(h.items, item{message, m.Sequence, len(m.Data)}), h.bytes+len(m.Data)
	return nil
}

// queue notes and queues what was read: from here on it may be applied.
func (h *release) queue() error {
	if len(h.items) == 0 {
		return nil
	}
	last := h.items[len(h.items)-1].seq
	if err := h.tail.cfg.Replica.NoteDue(last); err != nil {
		return err
	}
	t := h.tail
	t.mu.Lock()
	t.queue = append(t.queue, h.items...)
	t.unapplied += h.bytes
	t.holding.next = last + 1
	signal(t.applyReady)
	t.announce()
	t.mu.Unlock()
	h.giveBack()
	return nil
}

// giveBack gives back the room that was reserved.
func (h *release) giveBack() {
	if h.bytes > 0 {
		h.tail.Return(h.bytes)
	}
	h.items, h.bytes = nil, 0
}
