package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// stops records the order in which actors end.
type stops struct {
	mu    sync.Mutex
	order []string
}

func (s *stops) actor(name string) actor {
	return actor{name, func(ctx context.Context) error {
		<-ctx.Done()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.order = append(s.order, name)
		return ctx.Err()
	}, testTime}
}

func TestActorsStopInOrder(t *testing.T) {
	var s stops
	ctx, cancel := context.WithCancel(t.Context())
	running := actor{"starter", func(ctx context.Context) error { cancel(); <-ctx.Done(); return nil }, testTime}
	err := runActors(ctx, slog.New(slog.DiscardHandler), []actor{s.actor("nbd"), s.actor("journal"), running, s.actor("bus"), s.actor("nats")})
	if err != nil {
		t.Errorf("a clean stop returned %v", err)
	}
	if want := []string{"nbd", "journal", "bus", "nats"}; !slices.Equal(s.order, want) {
		t.Errorf("stopped in the order %v", s.order)
	}
}

func TestAnActorThatFailsStopsAll(t *testing.T) {
	var s stops
	broken := actor{"broken", func(context.Context) error { return errors.New("out of luck") }, testTime}
	err := runActors(t.Context(), slog.New(slog.DiscardHandler), []actor{s.actor("a"), broken, s.actor("b")})
	if err == nil || !strings.Contains(err.Error(), "broken: out of luck") {
		t.Errorf("the failure is told as %v", err)
	}
	if !slices.Equal(s.order, []string{"a", "b"}) {
		t.Errorf("stopped in the order %v", s.order)
	}
	quits := actor{"quits", func(context.Context) error { return nil }, testTime}
	if err := runActors(t.Context(), slog.New(slog.DiscardHandler), []actor{quits}); err == nil {
		t.Error("a part that ended by itself was no failure")
	}
}

func TestAHangingActorDoesNotBlockTheOthers(t *testing.T) {
	var s stops
	release := make(chan struct{})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	hanging := actor{"hanging", func(context.Context) error { <-release; return nil }, 10 * time.Millisecond}
	late := actor{"late", func(ctx context.Context) error { <-ctx.Done(); return errors.New("lost something") }, testTime}
	err := runActors(ctx, slog.New(slog.DiscardHandler), []actor{hanging, late, s.actor("nats")})
	for _, want := range []string{"hanging: it did not stop within 10ms", "late: lost something"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, it should say %q", err, want)
		}
	}
	if !slices.Equal(s.order, []string{"nats"}) {
		t.Errorf("stopped in the order %v", s.order)
	}
}
