package policy

import (
	"context"
	"slices"
	"time"

	"tidemark/events"
	"tidemark/internal/site"
)

// steer carries decisions out until ctx ends.
func (s *Service) steer(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due, next := s.due(now())
		for _, id := range due {
			s.step(ctx, id)
		}
		if len(due) > 0 {
			continue
		}
		if next > 0 {
			timer.Reset(time.Until(next.Time()))
		}
		select {
		case <-s.work:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

func now() events.Instant { return events.InstantOf(time.Now()) }

// due takes the directories that must be looked at, in a fixed order, and says when the
// next one must.
func (s *Service) due(at events.Instant) (due []events.DirectoryID, next events.Instant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.stale {
		due = append(due, id)
	}
	clear(s.stale)
	for id, wake := range s.wakes {
		switch {
		case wake <= at:
			due = append(due, id)
			delete(s.wakes, id)
		case next == 0 || wake < next:
			next = wake
		}
	}
	slices.Sort(due)
	return slices.Compact(due), next
}

// step looks at one directory, and publishes what the table says. What it publishes
// makes the directory stale again, so that the next step follows.
func (s *Service) step(ctx context.Context, id events.DirectoryID) {
	fenced, err := s.fenceFirst(ctx, id)
	if err != nil {
		if ctx.Err() == nil {
			s.retry(id, err)
		}
		return
	}
	operation, err := site.NewID()
	if err != nil {
		s.retry(id, err)
		return
	}
	var d Decision
	_, err = s.commit(ctx, func() (string, events.Fact, error) {
		d = Decide(s.state, id, now(), operation)
		if f, ok := d.Fact.(*events.DirectoryFenced); ok && f.Epoch > fenced {
			s.stale[id] = true // somebody else is gone since: another step
			return "", nil, nil
		}
		delete(s.wakes, id)
		if d.Wake > 0 {
			s.wakes[id] = d.Wake
		}
		return d.Stream, d.Fact, nil
	})
	if err != nil && ctx.Err() == nil {
		s.retry(id, err)
		return
	}
	if d.Fact != nil {
		s.log.Debug("decided", "directory", id, "rule", d.Rule, "fact", d.Fact.Kind())
	}
}

// retry looks at a directory again soon: the log did not take the fact, or did and the
// answer was lost; the next decision is made on what the log then holds.
func (s *Service) retry(id events.DirectoryID, err error) {
	s.log.Warn("decision not published", "directory", id, "error", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakes[id] = now() + events.Instant(retryFirst)
}
