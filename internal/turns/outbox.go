// Package turns notes in stream LIFECYCLE what only the process knows that notes it: that
// it opens or closes a directory, that a copy is late, that histories have parted. What
// other streams hold as facts the notifier notes from those.
//
// Nothing waits for a note: they stand in line in memory, and each is tried until it is
// stored. What is still in line when the process dies, or when more than 32768 are, is lost.
//
// A turn that lasts (see [events.Lifecycle.EndedBy]) is noted when it begins and when it
// ends, and not once more by a process that starts in between, or by the next node: the
// newest note of the two in LIFECYCLE says how it stands. A directory that fails is tried
// again for as long as it takes: that it fails for the same reason is noted once an hour.
package turns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
)

const (
	queueMax = 1 << 15 // all directories of a large site, at once
	// drainTime is how long a process that ends tries to store what is in line.
	drainTime  = 2 * time.Second
	retryFirst = 250 * time.Millisecond
	retryLast  = 5 * time.Second
	// failsAgain is after how long a failure that stays is noted again.
	failsAgain = time.Hour
)

// Outbox holds the notes of a process that are not stored yet, and stores them in order.
type Outbox struct {
	bus  *bus.Bus
	log  *slog.Logger
	wake chan struct{} // holds a token while there may be something in line

	mu    sync.Mutex
	queue []queued
}

type queued struct {
	turn   events.LifecycleNoted // without What: nothing is stored
	stored chan struct{}         // closed when it is not in line any more
}

// NewOutbox returns an outbox that stores nothing before Start.
func NewOutbox(b *bus.Bus, log *slog.Logger) *Outbox {
	return &Outbox{bus: b, log: log, wake: make(chan struct{}, 1)}
}

// Note puts a note in line. The channel is closed when it is stored, or was given up.
func (o *Outbox) Note(turn events.LifecycleNoted) (stored <-chan struct{}) {
	return o.enqueue(queued{turn, make(chan struct{})})
}

// Flush returns a channel that is closed when nothing is in line that is now.
func (o *Outbox) Flush() (stored <-chan struct{}) {
	return o.enqueue(queued{stored: make(chan struct{})})
}

func (o *Outbox) enqueue(q queued) (stored <-chan struct{}) {
	o.mu.Lock()
	o.queue = append(o.queue, q)
	var lost []queued
	if extra := len(o.queue) - queueMax; extra > 0 {
		lost, o.queue = o.queue[:extra:extra], o.queue[extra:]
	}
	o.mu.Unlock()
	for _, l := range lost {
		o.giveUp(l, errors.New("too many are in line"))
	}
	select {
	case o.wake <- struct{}{}:
	default: // it is awake
	}
	return q.stored
}

func (o *Outbox) giveUp(q queued, why error) {
	o.log.Warn("turn not noted", "what", string(q.turn.What), "directory", q.turn.Pool+q.turn.Path, "error", why)
	close(q.stored)
}

// Start stores notes until stop is called, which waits for what is in line, for a while.
func (o *Outbox) Start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	ending, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		o.run(ctx, ending)
	}()
	return func() {
		close(ending)
		late := time.AfterFunc(drainTime, func() { cancel(errors.New("the process ends")) })
		<-ended
		late.Stop()
		cancel(nil)
	}
}

// run stores what is in line until ctx ends, or nothing is when ending is closed.
func (o *Outbox) run(ctx context.Context, ending <-chan struct{}) {
	for {
		for q, ok := o.next(); ok; q, ok = o.next() {
			if q.turn.What != "" {
				if err := o.store(ctx, q.turn); err != nil {
					o.giveUp(q, err)
					continue
				}
			}
			close(q.stored)
		}
		select {
		case <-o.wake:
			continue
		default:
		}
		select {
		case <-o.wake:
		case <-ending:
			return
		}
	}
}

func (o *Outbox) next() (queued, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		return queued{}, false
	}
	q := o.queue[0]
	o.queue = o.queue[1:]
	return q, true
}

// store tries until a note is stored, or ctx ends.
func (o *Outbox) store(ctx context.Context, turn events.LifecycleNoted) error {
	for wait := retryFirst; ; wait = min(2*wait, retryLast) {
		err := o.tryStore(ctx, turn)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return errors.Join(context.Cause(ctx), err)
		case errors.Is(err, bus.ErrOvertaken):
			continue
		}
		o.log.Debug("a turn is noted again", "what", string(turn.What), "error", err)
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// tryStore stores a note unless it is there, or says nothing new.
func (o *Outbox) tryStore(ctx context.Context, turn events.LifecycleNoted) error {
	same, err := last(ctx, o.bus, turn)
	if err != nil {
		return err
	}
	if same.turn.At == turn.At && same.turn.Node == turn.Node && same.sequence > 0 {
		return nil // its acknowledgement was lost
	}
	if other, paired := counterpart(turn); paired {
		opposite, err := last(ctx, o.bus, other)
		if err != nil || same.sequence > opposite.sequence {
			return err
		}
	}
	if again, err := o.again(ctx, turn, same); again || err != nil {
		return err
	}
	_, err = o.bus.PublishOver(ctx, events.StreamLifecycle, same.sequence, &turn)
	return err
}

// again reports whether a turn only says once more what was noted: that a directory, which
// was not opened in between, failed on this node for that reason.
func (o *Outbox) again(ctx context.Context, turn events.LifecycleNoted, before noted) (bool, error) {
	tried := turn.What == events.Failed || turn.What == events.LostTail
	if !tried || before.sequence == 0 || before.turn.Node != turn.Node || before.turn.Detail != turn.Detail ||
		turn.At.Sub(before.turn.At) >= failsAgain {
		return false, nil
	}
	opened := turn
	opened.What = events.Opened
	since, err := last(ctx, o.bus, opened)
	return err == nil && since.sequence < before.sequence, err
}

// counterpart returns the turn that ends this one, or that this one ends.
func counterpart(turn events.LifecycleNoted) (other events.LifecycleNoted, paired bool) {
	other = turn
	if other.What, paired = turn.What.EndedBy(); !paired {
		other.What, paired = turn.What.Ends()
	}
	return other, paired
}

// noted is a note and where it stands; zero for none.
type noted struct {
	sequence uint64
	turn     events.LifecycleNoted
}

// last returns the newest note on the subject of a turn.
func last(ctx context.Context, b *bus.Bus, turn events.LifecycleNoted) (noted, error) {
	m, err := b.Last(ctx, events.StreamLifecycle, turn.Subject())
	if errors.Is(err, bus.ErrNotFound) {
		return noted{}, nil
	}
	if err != nil {
		return noted{}, err
	}
	n := noted{sequence: m.Sequence}
	if fact, err := events.Unmarshal(m.Data); err == nil {
		if f, ok := fact.(*events.LifecycleNoted); ok {
			n.turn = *f
		}
	}
	return n, nil
}

// Lasts reports whether a turn of a directory that lasts was noted and has not ended.
func Lasts(ctx context.Context, b *bus.Bus, turn events.LifecycleNoted) (bool, error) {
	begun, err := last(ctx, b, turn)
	if err != nil || begun.sequence == 0 {
		return false, err
	}
	other, paired := counterpart(turn)
	if !paired {
		return false, fmt.Errorf("%s does not last", turn.What)
	}
	ended, err := last(ctx, b, other)
	return begun.sequence > ended.sequence, err
}
