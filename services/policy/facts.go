package policy

import "tidemark/events"

// What the rows of the table publish. Each names the epoch of the mapping in force.

func (v *view) mapTo(node string, role events.Role) events.Fact {
	epoch := max(v.d.Mapping.Epoch, v.s.Epochs[v.d.Name]) + 1
	return &events.DirectoryMapped{Directory: v.d.ID, Pool: v.d.Name.Pool, Node: node, Role: role, Epoch: epoch, At: v.now}
}

func (v *view) place() events.Fact       { return v.mapTo(v.choose(v.d.Intent.Role), v.d.Intent.Role) }
func (v *view) placeMaster() events.Fact { return v.mapTo(v.choose(events.Master), events.Master) }
func (v *view) placeAtCopy() events.Fact { return v.mapTo(v.copyFor(events.Master), events.Master) }
func (v *view) placeElsewhere() events.Fact {
	return v.mapTo(v.pick(events.Slave, v.d.Mapping.Node), events.Slave)
}

// assign addresses a request to an instance.
func (v *view) assign(seat Seat, role events.Role) events.Assignment {
	return events.Assignment{
		Operation: v.operation, Directory: v.d.ID, Node: seat.Node, Incarnation: seat.Incarnation,
		Role: role, Epoch: v.d.Mapping.Epoch,
	}
}

func (v *view) acquire() events.Fact {
	seat, _ := v.target()
	f := &events.AcquireRequested{
		Assignment: v.assign(seat, v.d.Mapping.Role), Pool: v.d.Name.Pool, Path: v.d.Name.Path, At: v.now,
	}
	if v.d.Mapping.Role == events.Master && v.promotes() {
		f.Promote = events.TagPromoted
		if v.d.Intent.Force {
			f.Promote = events.TagForced
		}
	}
	f.Elsewhere = f.Role == events.Slave && v.heldElsewhere(seat.Node)
	if r := v.d.Resync; v.d.Mapping.Role == events.Slave && r.Wanted > 0 {
		f.Resync, f.KeepRefused = r.Wanted, r.KeepRefused
	}
	return f
}

func (v *view) release(seat Seat, role events.Role) *events.ReleaseRequested {
	return &events.ReleaseRequested{Assignment: v.assign(seat, role), Pool: v.d.Name.Pool, Path: v.d.Name.Path, At: v.now}
}

func (v *view) releaseOf(h *Holder) *events.ReleaseRequested {
	return v.release(seatOf(h.Assignment), h.Assignment.Role)
}

func (v *view) releaseStray() events.Fact { return v.releaseOf(v.stray()) }

func (v *view) releaseHolder() events.Fact {
	f := v.releaseOf(v.holder())
	f.KeepAll = v.d.Intent.Role == events.Master && v.d.Intent.Force
	return f
}

func (v *view) demote() events.Fact {
	f := v.releaseOf(v.holder())
	f.Demote = true
	return f
}

// demoteTarget demotes what nobody holds, because its holder died: perhaps after it had
// demoted it and before it could say so. It is not acquired for that, because an owner
// takes writes.
func (v *view) demoteTarget() events.Fact {
	seat, _ := v.target()
	f := v.release(seat, events.Master)
	f.Demote = true
	return f
}

func (v *view) removeFromHolder() events.Fact {
	f := v.releaseOf(v.anyHolder())
	f.Remove, f.IfEmpty = true, v.d.IfEmpty
	return f
}

func (v *view) removeCopy() events.Fact {
	seat, _ := v.target()
	f := v.release(seat, v.d.Mapping.Role)
	f.Remove, f.IfEmpty = true, v.d.IfEmpty
	return f
}

// removeOtherCopy asks a node that had the directory before, and kept its copy, to delete it.
func (v *view) removeOtherCopy() events.Fact {
	seat, role, _ := v.otherCopy()
	f := v.release(seat, role)
	f.Remove = true
	return f
}

func (v *view) forget() events.Fact {
	return &events.DirectoryForgotten{Directory: v.d.ID, Pool: v.d.Name.Pool, At: v.now}
}

func (v *view) refuseRemoval() events.Fact {
	f := v.failure()
	return &events.RemovalRefused{
		Directory: v.d.ID, Pool: v.d.Name.Pool,
		Operation: f.Assignment.Operation, Code: string(f.Code), Message: f.Message, At: v.now,
	}
}

// refuse gives the directory back the role that it had.
func (v *view) refuse() events.Fact {
	f := v.failure()
	role := events.Slave
	if v.d.Intent.Role == events.Slave {
		role = events.Master
	}
	return &events.RoleChangeRefused{
		Directory: v.d.ID, Pool: v.d.Name.Pool, Role: role,
		Operation: f.Assignment.Operation, Code: string(f.Code), Message: f.Message, At: v.now,
	}
}

// requestOf returns the request that a fact makes, if it makes one.
func requestOf(fact events.Fact) (Request, bool) {
	switch f := fact.(type) {
	case *events.AcquireRequested:
		return Request{Assignment: f.Assignment, Resync: f.Resync, At: f.At}, true
	case *events.ReleaseRequested:
		return Request{Assignment: f.Assignment, Release: true, Demote: f.Demote, Remove: f.Remove, Discard: f.Discard, At: f.At}, true
	}
	return Request{}, false
}
