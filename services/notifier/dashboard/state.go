package dashboard

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"tidemark/events"
	"tidemark/internal/overview"
)

// Snapshot is what the site said of itself at a moment.
type Snapshot struct {
	At      time.Time
	Map     overview.Map
	Lines   []overview.Line
	Reports overview.Reports
}

// turnsMax are kept of what happened last.
const turnsMax = 40

// seat names a service of a node.
type seat struct{ Node, Service string }

// row is a directory with what is wrong with it, worst first.
type row struct {
	overview.Line
	worries []overview.Worry
	since   time.Time // when that was first seen
}

// State is the fold of what the site says and what happens in it.
type State struct {
	last    *Snapshot
	rows    []row // what needs attention first, each by name
	failure string
	failed  time.Time // since when the site does not answer; zero while it does

	lags    map[string]*series // of each directory, by name
	worst   series             // the greatest of all
	sampled time.Time
	since   map[string]time.Time // when a directory was first seen to need attention

	silent map[seat]time.Time
	turns  []events.LifecycleNoted // newest first
}

// NewState returns the state of a site that nothing was heard of.
func NewState(now time.Time) *State {
	return &State{
		failed: now, failure: "it was not asked yet",
		lags: map[string]*series{}, since: map[string]time.Time{}, silent: map[seat]time.Time{},
	}
}

// Heard takes what the site says now.
func (s *State) Heard(snapshot Snapshot) {
	s.last, s.failed, s.failure = &snapshot, time.Time{}, ""
	sample := snapshot.At.Sub(s.sampled) >= sampleAge
	if sample {
		s.sampled = snapshot.At
	}
	since, lags, worst := map[string]time.Time{}, make(map[string]*series, len(snapshot.Lines)), 0.0
	s.rows = make([]row, 0, len(snapshot.Lines))
	for _, l := range snapshot.Lines {
		r := row{Line: l, worries: l.Worries()}
		if len(r.worries) > 0 {
			r.since = snapshot.At
			if known, ok := s.since[l.Directory]; ok {
				r.since = known
			}
			since[l.Directory] = r.since
		}
		s.rows = append(s.rows, r)
		worst = max(worst, l.Lag.Seconds)
		kept := s.lags[l.Directory]
		if kept == nil {
			kept = &series{}
		}
		if sample {
			kept.add(l.Lag.Seconds)
		}
		lags[l.Directory] = kept
	}
	if sample {
		s.worst.add(worst)
	}
	s.since, s.lags = since, lags // nothing is kept of directories that are gone
	slices.SortStableFunc(s.rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), strings.Compare(a.Directory, b.Directory))
	})
}

// rank sorts what needs attention before what does not.
func (r row) rank() overview.Rank {
	rank := overview.Rank(1 << 10)
	for _, w := range r.worries {
		rank = min(rank, w.Rank)
	}
	return rank
}

// Unanswered takes that the site did not answer, and why.
func (s *State) Unanswered(at time.Time, why string) {
	if s.failed.IsZero() {
		s.failed = at
	}
	s.failure = why
}

// Noted takes a turn that listeners are told of.
func (s *State) Noted(f events.LifecycleNoted) {
	s.turns = append([]events.LifecycleNoted{f}, s.turns[:min(len(s.turns), turnsMax-1)]...)
}

// Instance takes who came and who went.
func (s *State) Instance(fact events.Fact) {
	switch f := fact.(type) {
	case *events.InstanceAdded:
		delete(s.silent, seat{f.Node, f.Service})
	case *events.InstanceRemoved:
		delete(s.silent, seat{f.Node, f.Service})
		if f.Reason == events.ReasonSilent {
			s.silent[seat{f.Node, f.Service}] = f.At.Time()
		}
	}
}
