package instance

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
)

// standing is what INSTANCES says of one service of a node, from a moment on.
type standing struct {
	node, service string

	mu      sync.Mutex // over what follows
	alive   string     // the incarnation that lives by the log; "" if none does, or none was named yet
	ended   map[string]bool
	folded  uint64
	changed chan struct{} // closed at the next change
}

func newStanding(node, service string) *standing {
	return &standing{node: node, service: service, ended: map[string]bool{}, changed: make(chan struct{})}
}

// note folds one message; fact is nil if it could not be read.
func (s *standing) note(sequence uint64, fact events.Fact) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.folded = sequence
	switch f := fact.(type) {
	case *events.InstanceAdded:
		if f.Node == s.node && f.Service == s.service {
			if s.alive != "" && s.alive != f.Incarnation {
				s.ended[s.alive] = true
			}
			s.alive = f.Incarnation
		}
	case *events.InstanceRemoved:
		if f.Node == s.node && f.Service == s.service {
			s.ended[f.Incarnation] = true
			if s.alive == f.Incarnation {
				s.alive = ""
			}
		}
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// gone reports whether the log says that an incarnation lives no more; changed is closed
// when that may have changed.
func (s *standing) gone(incarnation string) (gone bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended[incarnation], s.changed
}

// awaitVacant returns when nobody lives by the name but former, by all that the log has at
// the call, or with ctx's error.
func (s *standing) awaitVacant(ctx context.Context, b *bus.Bus, former string) error {
	end, err := b.State(ctx, events.StreamInstances)
	for ; err != nil; end, err = b.State(ctx, events.StreamInstances) {
		if !pause(ctx) {
			return ctx.Err()
		}
	}
	for {
		s.mu.Lock()
		vacant := s.folded >= end.Last && (s.alive == "" || s.alive == former)
		changed := s.changed
		s.mu.Unlock()
		if vacant {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// follow folds INSTANCES from a sequence on until ctx ends. A reader that breaks off is
// started again; only a gap in the log is an error.
func (s *standing) follow(ctx context.Context, b *bus.Bus, next uint64, log *slog.Logger) error {
	s.mu.Lock()
	s.folded = next - 1
	s.mu.Unlock()
	for {
		err := b.Follow(ctx, events.StreamInstances, next, func(m bus.Message) error {
			next = m.Sequence + 1
			fact, err := events.Unmarshal(m.Data)
			if err != nil {
				log.Error("message passed over: it cannot be read", "stream", events.StreamInstances, "sequence", m.Sequence, "error", err)
			}
			s.note(m.Sequence, fact)
			return nil
		})
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end of ctx is how it ends
		case errors.Is(err, bus.ErrGap):
			return err
		}
		log.Warn("reading a stream again", "stream", events.StreamInstances, "from", next, "error", err)
		if !pause(ctx) {
			return nil
		}
	}
}

// pauseTime is between tries to read INSTANCES.
const pauseTime = 250 * time.Millisecond

// pause reports whether it lasted to its end.
func pause(ctx context.Context) bool {
	t := time.NewTimer(pauseTime)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
