package bus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"tidemark/internal/bus"
)

func trimmed(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 0)
	fill(t, l, subject, 1, 20)
	if err := l.Trim(within(t), 11); err != nil {
		t.Fatal(err)
	}
	for _, from := range []uint64{1, 10} {
		err := l.ReadTo(within(t), from, 20, func(m bus.Message) error { return fmt.Errorf("given message %d", m.Sequence) })
		var gap *bus.GapError
		if !errors.Is(err, bus.ErrGap) || !errors.As(err, &gap) || gap.Want != from || gap.Got != 11 {
			t.Errorf("from %d: %v", from, err)
		}
	}
	if err := l.ReadTo(within(t), 11, 20, expect(t, 11)); err != nil {
		t.Error(err)
	}
	if _, err := l.Get(within(t), 10); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("a trimmed message: %v", err)
	}
	// All of it: the sequence goes on, and what is asked for is said to be missing.
	if err := l.Trim(within(t), 21); err != nil {
		t.Fatal(err)
	}
	if err := l.ReadTo(within(t), 15, 20, expect(t, 0)); !errors.Is(err, bus.ErrGap) {
		t.Errorf("a log that was emptied: %v", err)
	}
	fill(t, l, subject, 21, 22)
	if err := l.ReadTo(within(t), 21, 22, expect(t, 21)); err != nil {
		t.Error(err)
	}
}

var errEnough = errors.New("enough")

// journal 79, journal 88: a live reader is woken by what comes.
//
// followGoesOn reads what is there, what comes meanwhile, and from the middle again.
func followGoesOn(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 0)
	fill(t, l, subject, 1, 50)
	var writers sync.WaitGroup
	defer writers.Wait()
	check := expect(t, 1)
	err := l.Follow(within(t), 1, func(m bus.Message) error {
		if m.Sequence == 50 {
			writers.Go(func() { fill(t, l, subject, 51, 100) })
		}
		if err := check(m); err != nil || m.Sequence < 100 {
			return err
		}
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	check = expect(t, 99)
	err = l.Follow(within(t), 99, func(m bus.Message) error {
		if m.Sequence == 100 {
			writers.Wait()
			writers.Go(func() { fill(t, l, subject, 101, 101) })
		}
		if err := check(m); err != nil || m.Sequence < 101 {
			return err
		}
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
}

// journal 86: a reader that is told to end does, while it reads and while it waits.
func followEnds(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 0)
	fill(t, l, subject, 1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := l.Follow(ctx, 1, func(bus.Message) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	fill(t, l, subject, 2, 20)
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	err = l.ReadTo(ctx, 1, 20, func(m bus.Message) error {
		if m.Sequence > 3 {
			t.Errorf("message %d comes long after the end", m.Sequence)
		}
		cancel()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("while it reads: %v", err)
	}
	waiting, done := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer done()
	if err := l.Follow(waiting, 21, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it waits: %v", err)
	}
	if err := b.Follow(within(t), "NONE", 1, nil); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("no stream: %v", err)
	}
}
