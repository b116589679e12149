package policy

import (
	"context"
	"errors"
	"sync"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
)

const pause = 250 * time.Millisecond

// begin says where a stream starts.
func (s *Service) begin(ctx context.Context, stream string) (from uint64, err error) {
	st, err := s.bus.State(ctx, stream)
	if err != nil {
		return 0, err
	}
	from = max(st.First, 1)
	s.mu.Lock()
	s.folded[stream] = from - 1
	s.mu.Unlock()
	return from, nil
}

// follow folds a stream until ctx ends. A reader that breaks off is started again; only
// a gap in the log is an error.
func (s *Service) follow(ctx context.Context, stream string, next uint64) error {
	for {
		err := s.bus.Follow(ctx, stream, next, func(m bus.Message) error {
			next = m.Sequence + 1
			fact, err := events.Unmarshal(m.Data)
			if err != nil {
				s.metrics.unreadable.Inc()
				s.log.Error("message skipped: it cannot be read", "stream", stream, "sequence", m.Sequence, "error", err)
			}
			s.apply(stream, m.Sequence, fact)
			return nil
		})
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end of ctx is how it ends
		case errors.Is(err, bus.ErrGap):
			return err
		}
		s.log.Warn("reading a stream again", "stream", stream, "from", next, "error", err)
		if sleep(ctx, pause) != nil {
			return nil //nolint:nilerr // the end of ctx
		}
	}
}

// watchMeasures folds what directories amount to until ctx ends: of each copy the newest
// measure is kept, and no other.
func (s *Service) watchMeasures(ctx context.Context) error {
	var known sync.Once
	for {
		err := s.bus.Watch(ctx, events.StreamPositions, events.MeasuresSubject, func() { known.Do(func() { close(s.measured) }) },
			func(seq uint64, fact events.Fact) error {
				if m, ok := fact.(*events.DirectoryMeasured); ok {
					s.apply(events.StreamPositions, seq, m)
				}
				return nil
			})
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is how it ends
		}
		s.log.Warn("reading measures again", "error", err)
		if sleep(ctx, pause) != nil {
			return nil //nolint:nilerr // the end of ctx
		}
	}
}

// sleep returns ctx's error if it ends before d has passed.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// apply folds one message; fact is nil if it could not be read.
func (s *Service) apply(stream string, seq uint64, fact events.Fact) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fact != nil {
		s.state.Evolve(seq, fact)
		s.touch(fact)
	}
	s.folded[stream] = seq
	close(s.changed)
	s.changed = make(chan struct{})
}

// touch notes which decisions a fact may have changed.
func (s *Service) touch(fact events.Fact) {
	id, about := directoryOf(fact)
	switch fact.(type) {
	case *events.InstanceAdded, *events.InstanceRemoved, *events.DirectoryMapped, *events.DirectoryForgotten,
		*events.AcquireAcknowledged, *events.DirectoryMeasured, *events.PlacementConfigured:
		s.uneven = true
	}
	switch fact.(type) {
	case *events.InstanceAdded, *events.InstanceRemoved:
		for d := range s.state.Directories {
			s.stale[d] = true
		}
		for d := range s.state.Forgotten {
			s.stale[d] = true
		}
	default:
		if about {
			s.stale[id] = true
		}
	}
	s.wake()
}

func (s *Service) wake() {
	select {
	case s.work <- struct{}{}:
	default: // it is awake
	}
}

func directoryOf(fact events.Fact) (id events.DirectoryID, about bool) {
	switch f := fact.(type) {
	case *events.DirectoryCreated:
		return f.Directory, true
	case *events.DirectoryTracked:
		return f.Directory, true
	case *events.DirectoryRemoved:
		return f.Directory, true
	case *events.DirectoryMapped:
		return f.Directory, true
	case *events.DirectoryFenced:
		return f.Directory, true
	case *events.PromotionRequested:
		return f.Directory, true
	case *events.DemotionRequested:
		return f.Directory, true
	case *events.RoleChangeRefused:
		return f.Directory, true
	case *events.RemovalRefused:
		return f.Directory, true
	case *events.ResyncRequested:
		return f.Directory, true
	case *events.AcquireRequested:
		return f.Directory, true
	case *events.ReleaseRequested:
		return f.Directory, true
	case *events.AcquireAcknowledged:
		return f.Directory, true
	case *events.ReleaseAcknowledged:
		return f.Directory, true
	}
	return "", false
}

// await returns when condition holds, or with ctx's error. condition runs under the lock.
func (s *Service) await(ctx context.Context, condition func() bool) error {
	for {
		s.mu.Lock()
		done, changed := condition(), s.changed
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// catchUp returns when the state holds everything that the stream held at the call.
func (s *Service) catchUp(ctx context.Context, stream string) error {
	st, err := s.bus.State(ctx, stream)
	if err != nil {
		return err
	}
	return s.await(ctx, func() bool { return s.folded[stream] >= st.Last })
}

// current returns when the state holds every command that was answered before the call,
// by this service or by another.
func (s *Service) current(ctx context.Context) error {
	for _, stream := range []string{events.StreamPools, events.StreamDirectories} {
		if err := s.catchUp(ctx, stream); err != nil {
			return fault.New(codeOf(err), "read the state of the site: %w", err)
		}
	}
	return nil
}

// commit publishes the fact that decide makes of the state, on the condition that the
// state is the stream's newest, and returns its sequence when it is folded: whoever is
// answered then sees it. It decides again when another writer was faster. decide runs
// under the lock; a nil fact publishes nothing.
func (s *Service) commit(ctx context.Context, decide func() (stream string, f events.Fact, err error)) (uint64, error) {
	select {
	case <-s.publishing:
		defer func() { s.publishing <- struct{}{} }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	for {
		s.mu.Lock()
		stream, fact, err := decide()
		last := s.folded[stream]
		s.mu.Unlock()
		if fact == nil || err != nil {
			return 0, err
		}
		seq, err := s.bus.PublishAfter(ctx, stream, last, fact) // the commit point
		overtaken := errors.Is(err, bus.ErrOvertaken)
		if err != nil && !overtaken {
			return 0, err
		}
		if overtaken {
			s.metrics.overtaken.Inc()
			seq = last + 1
		}
		if err := s.await(ctx, func() bool { return s.folded[stream] >= seq }); err != nil {
			return 0, err
		}
		if !overtaken {
			s.metrics.published.WithLabelValues(fact.Kind()).Inc()
			return seq, nil
		}
	}
}

// codeOf is fault.CodeOf for errors of the bus.
func codeOf(err error) fault.Code {
	switch {
	case errors.Is(err, bus.ErrFull):
		return fault.NoSpace
	case errors.Is(err, context.Canceled):
		return fault.Timeout
	}
	return fault.CodeOf(err)
}
