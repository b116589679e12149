package notifier

import (
	"context"
	"errors"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
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
		if !sleep(ctx, pause) {
			return nil
		}
	}
}

// apply folds one message; fact is nil if it could not be read.
func (s *Service) apply(stream string, seq uint64, fact events.Fact) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fact != nil {
		s.state.Evolve(seq, fact)
	}
	s.folded[stream] = seq
	switch f := fact.(type) {
	case *events.AcquireRequested:
		s.needs(f.Directory)
	case *events.ReleaseRequested:
		s.needs(f.Directory)
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Service) needs(d events.DirectoryID) {
	s.fresh[d] = true
	select {
	case s.work <- struct{}{}:
	default: // it is awake
	}
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

func (s *Service) awaitFolded(ctx context.Context, stream string, seq uint64) error {
	return s.await(ctx, func() bool { return s.folded[stream] >= seq })
}

// catchUp returns when the state holds everything that the stream held at the call.
func (s *Service) catchUp(ctx context.Context, stream string) error {
	st, err := s.bus.State(ctx, stream)
	if err != nil {
		return err
	}
	return s.awaitFolded(ctx, stream, st.Last)
}

// commit publishes the fact that decide makes of the state, on the condition that the
// state is the stream's newest, and returns when it is folded. It decides again when
// another writer was faster. decide runs under the lock; a nil fact ends the commit.
func (s *Service) commit(ctx context.Context, stream string, decide func() events.Fact) error {
	select {
	case <-s.publishing:
		defer func() { s.publishing <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		s.mu.Lock()
		fact, last := decide(), s.folded[stream]
		s.mu.Unlock()
		if fact == nil {
			return nil
		}
		seq, err := s.bus.PublishAfter(ctx, stream, last, fact)
		if errors.Is(err, bus.ErrOvertaken) {
			seq, err = last+1, nil
		}
		if err != nil {
			return err
		}
		if err := s.awaitFolded(ctx, stream, seq); err != nil {
			return err
		}
	}
}

// sleep reports whether it slept to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
