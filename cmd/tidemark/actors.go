package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/oklog/run"
)

// actor is a part of the process with a life of its own.
type actor struct {
	name string
	// run works until ctx ends, and returns nil then.
	run func(ctx context.Context) error
	// stopTime is how long it may take to stop. After that the process goes on
	// stopping without it.
	stopTime time.Duration
}

// errStop is what the actor returns that waits for the signal to stop.
var errStop = errors.New("asked to stop")

// runActors starts all actors and runs until ctx ends or one of them does. Then it
// stops them one after the other, in the order given: each has ended, or has used up
// its time, before the next is asked. It returns what went wrong in any of them.
//
// run.Group starts everything and interrupts in order; the waiting is in the interrupts.
func runActors(ctx context.Context, log *slog.Logger, actors []actor) error {
	var group run.Group
	var failures failures
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	group.Add(func() error { <-stop.Done(); return errStop }, func(error) { cancel() })
	for _, a := range actors {
		// The signal must not reach all of them at once.
		life, end := context.WithCancel(context.WithoutCancel(ctx))
		s := &staged{actor: a, life: life, end: end, log: log, ended: make(chan struct{}), abandoned: make(chan struct{})}
		group.Add(func() error { return failures.note(s.execute()) }, s.interrupt)
	}
	if err := group.Run(); errors.Is(err, errStop) {
		log.Info("stopped")
	}
	return failures.joined()
}

// failures gathers the errors of actors.
type failures struct {
	mu  sync.Mutex
	all []error
}

func (f *failures) note(err error) error {
	if err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.all = append(f.all, err)
	}
	return err
}

func (f *failures) joined() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.all...)
}

// staged is an actor in the group.
type staged struct {
	actor
	life      context.Context //nolint:containedctx // of the actor: interrupt ends it
	end       context.CancelFunc
	log       *slog.Logger
	ended     chan struct{}
	abandoned chan struct{}
}

func (s *staged) execute() error {
	var err error
	go func() {
		defer close(s.ended)
		err = s.run(s.life)
	}()
	select {
	case <-s.ended:
	case <-s.abandoned:
		s.log.Error("a part did not stop", "part", s.name, "after", s.stopTime)
		return fmt.Errorf("%s: it did not stop within %s", s.name, s.stopTime)
	}
	switch {
	case s.life.Err() != nil && (err == nil || errors.Is(err, context.Canceled)):
		s.log.Debug("a part stopped", "part", s.name)
		return nil
	case err == nil:
		err = errors.New("it ended unasked")
	}
	s.log.Error("a part failed", "part", s.name, "error", err)
	return fmt.Errorf("%s: %w", s.name, err)
}

// interrupt ends the actor and waits for it. It is called once, by the group.
func (s *staged) interrupt(error) {
	s.end()
	limit := time.NewTimer(s.stopTime)
	defer limit.Stop()
	select {
	case <-s.ended:
	case <-limit.C:
		close(s.abandoned)
	}
}
