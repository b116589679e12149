package policy

import (
	"maps"
	"slices"
	"time"

	"tidemark/events"
)

// DefaultThrottle is how long a replica stays at a node before it may be moved to another
// for the sake of balance.
const DefaultThrottle = 300 * time.Second

// Rebalance returns the replicas that are to move now, those first that have been longest
// where they are, and when the next one may; zero is never, unless something happens. What
// moves is decided by the row "rebalance" of the table, one after the other.
func (s *State) Rebalance(now events.Instant) (move []events.DirectoryID, wake events.Instant) {
	p := s.Spreads[events.ServiceReplayer]
	if !p.uneven() {
		return nil, 0
	}
	plan := s.plan()
	for _, d := range s.candidates(p) {
		v := newView(plan, d.ID, now, "")
		if !v.mayMove() || !v.isBetterElsewhere() {
			continue
		}
		if until := v.movable(); until > now {
			if wake == 0 || until < wake {
				wake = until
			}
			continue
		}
		move = append(move, d.ID)
		plan.anticipate(v.rebalance())
	}
	return move, wake
}

// mayMove reports whether a directory is one that balance may move: a replica that is held
// and complete. A master stays with its data, and what is in motion is left alone.
func (v *view) mayMove() bool {
	return v.d.Mapping.Role == events.Slave && v.d.Intent.Role == events.Slave && !v.d.Removing &&
		v.settled() && !v.incomplete()
}

// incomplete reports whether the replica was said to be in its first sync or a resync: moved
// now, it would begin again.
func (v *view) incomplete() bool {
	m, known := v.s.Measures[v.d.ID]
	return known && m.Node == v.d.Mapping.Node && !m.Complete
}

// movable is when the throttle of the directory ends. One that seems to begin only in a
// throttle's time does not count: the clock was put back.
func (v *view) movable() events.Instant {
	if v.s.Placement.Throttle <= 0 || v.d.Mapping.At > v.now+events.Instant(v.s.Placement.Throttle) {
		return 0
	}
	return v.d.Mapping.At + events.Instant(v.s.Placement.Throttle)
}

func (v *view) isBetterElsewhere() bool {
	p := v.s.Spreads[events.ServiceReplayer]
	from, to := p.share(v.d.Mapping.Node), v.least(events.ServiceReplayer, v.d.Mapping.Node)
	return from.Alive && to.Node != "" && p.better(from, to, v.s.weight(v.d.ID), v.s.Placement.By)
}

// mustMove is the condition of the row "rebalance".
func (v *view) mustMove() bool {
	return v.mayMove() && v.movable() <= v.now && v.isBetterElsewhere()
}

// rebalance maps a replica to the node that has the least. Whoever holds it lets go of it
// then, quiesced, before the other node is asked to acquire it.
func (v *view) rebalance() events.Fact {
	return v.mapTo(v.pick(events.Slave, v.d.Mapping.Node), events.Slave)
}

// pick returns the live node with the least, "" if there is none.
func (v *view) pick(role events.Role, except string) string {
	return v.least(events.ServiceOf(role), except).Node
}

// plan returns a state to decide several directories by, one after the other, before any of
// it is in the log: what one decision maps, the next one sees as mapped. Everything else is
// shared with s and not to be changed.
func (s *State) plan() *State {
	plan := *s
	plan.Pooled = maps.Clone(s.Pooled)
	plan.Spreads = make(map[string]Spread, len(s.Spreads))
	for service, p := range s.Spreads {
		plan.Spreads[service] = slices.Clone(p)
	}
	return &plan
}

// anticipate notes a decision in a plan. Of a directory nothing but one decision is planned.
func (s *State) anticipate(fact events.Fact) {
	f, ok := fact.(*events.DirectoryMapped)
	if !ok {
		return
	}
	if d := s.Directories[f.Directory]; d != nil {
		s.moveLoad(d, Mapping{Node: f.Node, Role: f.Role, Epoch: f.Epoch})
	}
}

// placementOf reads a configuration; what it does not know is counted.
func placementOf(f *events.PlacementConfigured) Placement {
	p := Placement{f.Throttle, f.By}
	if p.By != events.BalanceSize && p.By != events.BalanceWrites {
		p.By = events.BalanceCount
	}
	return p
}
