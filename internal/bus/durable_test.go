package bus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"tidemark/internal/bus"
)

// TestDurable: a place outlives whoever reads at it; one message is out at a time, and
// comes again when it was given back, or when its reader says nothing.
func TestDurable(t *testing.T) {
	s := start(t, t.TempDir(), "127.0.0.1:0")
	b := inProcess(t, s)
	l, subject := newLog(t, b, 0)
	fill(t, l, subject, 1, 2)
	open := func(name string, fromStart bool) *bus.Durable {
		t.Helper()
		d, err := b.OpenDurable(within(t), l.Name(), bus.DurableConfig{Name: name, Wait: time.Second, Idle: time.Hour, FromStart: fromStart})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Stop)
		return d
	}
	next := func(d *bus.Durable, seq, tries uint64) bus.Delivery {
		t.Helper()
		m, err := d.Next(within(t))
		if err != nil || m.Sequence != seq || m.Tries != tries || string(m.Data) != string(text(seq)) || time.Since(m.Stored) > time.Minute {
			t.Fatalf("message %d at try %d, %v; want %d at %d", m.Sequence, m.Tries, err, seq, tries)
		}
		return m
	}
	done := func(m bus.Delivery) {
		t.Helper()
		if err := m.Done(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	late, all := open("late", false), open("all", true)
	done(next(all, 1, 1))
	m := next(all, 2, 1)
	fill(t, l, subject, 3, 3)
	// The server tells a consumer of what was stored a moment later.
	await(t, func() bool {
		n, err := all.Behind(within(t))
		return err == nil && n == 2
	})
	if err := m.Again(0); err != nil {
		t.Fatal(err)
	}
	m = next(all, 2, 2)
	if err := m.Working(); err != nil {
		t.Fatal(err)
	}
	all.Stop() // its reader died

	again := open("all", true)
	done(next(again, 2, 3))
	done(next(again, 3, 1))
	done(next(late, 3, 1))
	if n, err := again.Behind(within(t)); err != nil || n != 0 {
		t.Errorf("%d behind, %v", n, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := again.Next(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("of a reader that ended: %v", err)
	}
	if _, err := b.OpenDurable(within(t), "NONE", bus.DurableConfig{Name: "all"}); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("in no stream: %v", err)
	}
}
