package policy

import (
	"maps"
	"slices"

	"tidemark/events"
)

// copyIsReachable reports whether the mapped node lives and may still have a copy.
func (v *view) copyIsReachable() bool { return !v.a.Removed && v.targetLives() }

// heldElsewhere reports whether another node has a copy too, or may have one.
func (v *view) heldElsewhere(node string) bool {
	for other := range v.a.Copies {
		if other != node {
			return true
		}
	}
	return false
}

// otherCopy is a live service of a node that has a copy and that nothing is mapped to: the
// directory was there before. Of a directory that is removed if it is empty, it goes after
// the copy that was looked at.
func (v *view) otherCopy() (seat Seat, role events.Role, ok bool) {
	if v.d.IfEmpty && !v.a.Removed {
		return Seat{}, "", false
	}
	for _, node := range slices.Sorted(maps.Keys(v.a.Copies)) {
		for _, role := range []events.Role{events.Slave, events.Master} {
			k := Key{node, events.ServiceOf(role)}
			if i, lives := v.s.Instances[k]; lives && node != v.d.Mapping.Node {
				return Seat{k.Node, k.Service, i.Incarnation}, role, true
			}
		}
	}
	return Seat{}, "", false
}

func (v *view) hasOtherCopy() bool { _, _, ok := v.otherCopy(); return ok }

// keepsCopy reports whether the removal of an empty directory failed for good: it holds
// images, or whether it does cannot be known.
func (v *view) keepsCopy() bool {
	f := v.failure()
	return v.d.IfEmpty && f != nil && f.Remove && (!passing(f.Code) || f.Count >= refuseAfter)
}

// copyFor is the live node with the newest copy that could hold the directory in a role, ""
// if there is none: a master's data lies there and, but for its journal, nowhere else. A copy
// that is not complete is the last choice: it cannot be opened as a master.
func (v *view) copyFor(role events.Role) string {
	best := ""
	for node := range v.a.Copies {
		if _, lives := v.s.Instances[Key{node, events.ServiceOf(role)}]; lives && (best == "" || v.betterCopy(node, best)) {
			best = node
		}
	}
	return best
}

func (v *view) betterCopy(node, than string) bool {
	if a, b := v.unfinished(node), v.unfinished(than); a != b {
		return b
	}
	a, b := v.a.Copies[node], v.a.Copies[than]
	return a > b || a == b && node < than
}

// unfinished reports whether a node's copy is known to be in its first sync, or nothing is
// known of it while there is a complete one.
func (v *view) unfinished(node string) bool {
	told := v.s.Told[v.d.ID]
	own, known := told[node]
	return !own.Complete && (known || slices.ContainsFunc(slices.Collect(maps.Values(told)), func(m Measure) bool { return m.Complete }))
}

// copyLacksJournal reports whether a replica lies at a node that lives and cannot hold it as a
// master: no journal service runs there. No promotion is asked for then, because any other
// node has an older copy or none, which may not go with the journal.
func (v *view) copyLacksJournal() bool {
	m := v.d.Mapping
	_, follows := v.s.Instances[Key{m.Node, events.ServiceReplayer}]
	_, writes := v.s.Instances[Key{m.Node, events.ServiceJournal}]
	return m.Role == events.Slave && follows && !writes && v.a.Copies[m.Node] > 0 && !v.unfinished(m.Node)
}

// savedElsewhere reports whether a promotion that nobody else is to consent to must leave the
// mapped node: its copy was not complete yet when the primary was lost, and one that is lies
// at another node that lives.
func (v *view) savedElsewhere() bool {
	return v.d.Intent.Force && v.promotes() && v.d.Mapping.Role == events.Slave && v.unfinished(v.d.Mapping.Node) &&
		v.copyFor(events.Master) != "" && !v.unfinished(v.copyFor(events.Master))
}

// belongsToACopy reports whether a master failed at a node that never had it, or has an old
// copy, while one lives that has a newer one: it was away when the directory was mapped.
func (v *view) belongsToACopy() bool {
	f := v.failure()
	return v.d.Mapping.Role == events.Master && f != nil && !f.Release &&
		v.a.Copies[v.copyFor(events.Master)] > v.a.Copies[v.d.Mapping.Node]
}
