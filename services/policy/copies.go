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
// if there is none: a master's data lies there and, but for its journal, nowhere else.
func (v *view) copyFor(role events.Role) string {
	best := ""
	for node, epoch := range v.a.Copies {
		_, lives := v.s.Instances[Key{node, events.ServiceOf(role)}]
		if lives && (best == "" || epoch > v.a.Copies[best] || epoch == v.a.Copies[best] && node < best) {
			best = node
		}
	}
	return best
}

// belongsToACopy reports whether a master failed at a node that never had it, while one lives
// that has a copy: it was away when the directory was mapped.
func (v *view) belongsToACopy() bool {
	f := v.failure()
	return v.d.Mapping.Role == events.Master && f != nil && !f.Release && v.a.Copies[v.d.Mapping.Node] == 0 && v.copyFor(events.Master) != ""
}
