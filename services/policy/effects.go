package policy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/site"
)

// batchMax is how many directories are decided about at a time: what is decided is under way
// to the log together, and a command waits for one batch at most.
const batchMax = 128

// balanceEvery is how often it is looked at most how directories are spread.
const balanceEvery = time.Second

// steer carries decisions out until ctx ends.
func (s *Service) steer(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due, next := s.due(now())
		for batch := range slices.Chunk(due, batchMax) {
			s.step(ctx, batch)
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
// next one must. How directories are spread is looked at when nothing else is to be done.
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
		default:
			next = earlier(next, wake)
		}
	}
	if len(due) > 0 {
		slices.Sort(due)
		return slices.Compact(due), next
	}
	if s.uneven {
		s.uneven = false
		s.rebalance = earlier(s.rebalance, max(at, min(at, s.balanced)+events.Instant(balanceEvery)))
	}
	if s.rebalance > 0 && s.rebalance <= at {
		s.balanced = at
		due, s.rebalance = s.state.Rebalance(at)
	}
	return due, earlier(next, s.rebalance)
}

// earlier returns the earlier of two times, of which zero is never.
func earlier(a, b events.Instant) events.Instant {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// planned is what is to be published in one stream, and what it is about.
type planned struct {
	stream string
	last   uint64 // of the stream, as it was decided
	about  []events.DirectoryID
	facts  []events.Fact
}

// step looks at directories, and publishes what the table says of them. What it publishes
// makes a directory stale again, so that the next step follows.
func (s *Service) step(ctx context.Context, ids []events.DirectoryID) {
	ids, fenced := s.fenceAll(ctx, ids)
	select {
	case <-s.publishing:
		defer func() { s.publishing <- struct{}{} }()
	case <-ctx.Done():
		return
	}
	plans, err := s.plan(ids, fenced)
	if err != nil {
		s.retry(ids, err)
		return
	}
	for _, p := range plans {
		stored, err := s.bus.PublishAll(ctx, p.stream, p.last, p.facts) // the commit point
		for _, f := range p.facts[:stored] {
			s.metrics.published.WithLabelValues(f.Kind()).Inc()
		}
		seen := p.last + uint64(stored)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, bus.ErrOvertaken):
			s.metrics.overtaken.Inc()
			seen++ // of whoever was faster
			s.again(p.about[stored:])
		case err != nil:
			s.retry(p.about[stored:], err)
		}
		if s.await(ctx, func() bool { return s.folded[p.stream] >= seen }) != nil {
			return
		}
	}
}

// fencesMax is how many directories are fenced at a time.
const fencesMax = 16

// fenceAll fences what must be before the next step of each directory, and returns those whose
// step can be taken, and the epochs up to which they are fenced.
func (s *Service) fenceAll(ctx context.Context, ids []events.DirectoryID) ([]events.DirectoryID, map[events.DirectoryID]uint64) {
	s.mu.Lock()
	at := now()
	due := slices.DeleteFunc(slices.Clone(ids), func(id events.DirectoryID) bool {
		v := newView(s.state, id, at, "")
		return v == nil || v.unfenced() == nil
	})
	s.mu.Unlock()
	var mu sync.Mutex // protects fenced and failed
	fenced, failed := map[events.DirectoryID]uint64{}, map[events.DirectoryID]bool{}
	var g errgroup.Group
	g.SetLimit(fencesMax)
	for _, id := range due {
		g.Go(func() error {
			epoch, err := s.fenceFirst(ctx, id)
			if err != nil && ctx.Err() == nil {
				s.retry([]events.DirectoryID{id}, err)
			}
			mu.Lock()
			defer mu.Unlock()
			fenced[id], failed[id] = epoch, err != nil
			return nil
		})
	}
	_ = g.Wait() // what failed is tried again
	return slices.DeleteFunc(slices.Clone(ids), func(id events.DirectoryID) bool { return failed[id] }), fenced
}

// plan decides about directories, one after the other, on the newest state. fenced says which
// fences stand.
func (s *Service) plan(ids []events.DirectoryID, fenced map[events.DirectoryID]uint64) ([]*planned, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var plans []*planned
	state, at := s.state.plan(), now()
	for _, id := range ids {
		operation, err := site.NewID()
		if err != nil {
			return nil, err
		}
		d := Decide(state, id, at, operation)
		if f, ok := d.Fact.(*events.DirectoryFenced); ok && f.Epoch > fenced[id] {
			s.stale[id] = true // somebody else is gone since: another step
			continue
		}
		s.noteStalled(id, d.Stalled)
		delete(s.wakes, id)
		if d.Wake > 0 {
			s.wakes[id] = d.Wake
		}
		if d.Fact == nil {
			continue
		}
		state.anticipate(d.Fact)
		s.log.Debug("decided", "directory", id, "rule", d.Rule, "fact", d.Fact.Kind())
		i := slices.IndexFunc(plans, func(p *planned) bool { return p.stream == d.Stream })
		if i < 0 {
			i = len(plans)
			plans = append(plans, &planned{stream: d.Stream, last: s.folded[d.Stream]})
		}
		plans[i].about = append(plans[i].about, id)
		plans[i].facts = append(plans[i].facts, d.Fact)
	}
	return plans, nil
}

// again looks at directories again at once: another writer was faster.
func (s *Service) again(ids []events.DirectoryID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		s.stale[id] = true
	}
}

// retry looks at directories again soon: the log did not take the facts, or did and the
// answer was lost; the next decision is made on what the log then holds.
func (s *Service) retry(ids []events.DirectoryID, err error) {
	s.log.Warn("decisions not published", "directories", len(ids), "error", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		s.wakes[id] = now() + events.Instant(retryFirst)
	}
}
