package policy

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"tidemark/events"
	"tidemark/internal/fault"
)

// Status is the state of a directory in the map.
type Status string

// The states; the drawing is in the package comment.
const (
	Unassociated   Status = "unassociated"
	Associating    Status = "associating"
	Associated     Status = "associated"
	Shuffling      Status = "shuffling"
	Disassociating Status = "disassociating"
	Fencing        Status = "fencing"
)

const (
	retryFirst = time.Second
	retryMax   = 30 * time.Second
	// refuseAfter is how many failures in a row, of a kind that may pass, end a change
	// of role: about 15 s.
	refuseAfter = 5
	// moveAfter is how many failed acquires in a row move a replica to another node.
	moveAfter = 8
	// proposalTime is how long a proposed promotion keeps other sites from theirs: whoever
	// proposed it died, or has gone on to request or withdraw it within [consentTime].
	proposalTime = 30 * time.Second
)

// Decision is what to do about a directory.
type Decision struct {
	Rule    string // the row of the table
	Status  Status
	Stalled bool        // no live node can hold it
	Fact    events.Fact // to publish; nil is nothing
	Stream  string      // where to
	Wake    events.Instant
}

// Decide returns what to do about a directory now. now and operation, an id for the
// request that may result, are data: the same arguments give the same decision. A
// decision with neither fact nor Wake stands until a fact changes the state.
func Decide(s *State, id events.DirectoryID, now events.Instant, operation string) Decision {
	v := newView(s, id, now, operation)
	if v == nil {
		return Decision{Rule: "unknown", Status: Unassociated}
	}
	for _, r := range transitions {
		if !r.when(v) {
			continue
		}
		d := Decision{Rule: r.name, Status: r.status, Stalled: r.stalled}
		if r.then == nil {
			return d
		}
		d.Fact, d.Stream = r.then(v), events.StreamDirectories
		if request, ok := requestOf(d.Fact); ok {
			d.Stream = events.StreamNotifications
			if wait := v.notBefore(request); wait > now {
				d.Fact, d.Wake = nil, wait
			}
		}
		return d
	}
	return Decision{Rule: "none", Status: Unassociated}
}

// rule is one row of the transition table.
type rule struct {
	status  Status
	name    string // what the row is about
	when    func(*view) bool
	then    func(*view) events.Fact // nil: wait for a fact
	stalled bool
}

// transitions is the table, made once: it is walked for each directory at each turn.
var transitions = table()

// table is the transition table: the first row whose condition holds decides. It is the
// one in the package comment.
func table() []rule {
	return []rule{
		{Fencing, "fence", func(v *view) bool { return v.unfenced() != nil }, (*view).fence, false},
		{Disassociating, "removal asked", func(v *view) bool { return v.d.Removing && v.asked() }, nil, false},
		{Associating, "acquire asked", func(v *view) bool { return v.askedTo(false) }, nil, false},
		{Shuffling, "release asked", func(v *view) bool { return v.askedTo(true) }, nil, false},

		{Unassociated, "forgotten", func(v *view) bool {
			return v.forgotten && (v.keepsCopy() || v.anyHolder() == nil && !v.copyIsReachable() && !v.hasOtherCopy())
		}, nil, false},
		{Disassociating, "removal refused", func(v *view) bool { return v.d.Removing && v.keepsCopy() }, (*view).refuseRemoval, false},
		{Disassociating, "remove from holder", func(v *view) bool { return v.d.Removing && v.anyHolder() != nil }, (*view).removeFromHolder, false},
		{Disassociating, "remove copy", func(v *view) bool { return v.d.Removing && v.copyIsReachable() }, (*view).removeCopy, false},
		{Disassociating, "remove other copy", func(v *view) bool { return v.d.Removing && v.hasOtherCopy() }, (*view).removeOtherCopy, false},
		{Disassociating, "forget", func(v *view) bool { return v.d.Removing }, (*view).forget, false},

		{Shuffling, "superseded holder", func(v *view) bool { return v.stray() != nil }, (*view).releaseStray, false},
		{Shuffling, "change of role refused", (*view).refused, (*view).refuse, false},

		{Associating, "map again", (*view).mustMapAgain, (*view).mapAgain, false},

		{Shuffling, "demote", func(v *view) bool { return v.mustDemote() && v.holderAcquired() }, (*view).demote, false},
		{Shuffling, "demote unheld", func(v *view) bool { return v.mustDemote() && v.targetLives() }, (*view).demoteTarget, false},
		{Shuffling, "place to demote", func(v *view) bool { return v.mustDemote() && v.canPlace(events.Master) }, (*view).placeMaster, false},
		{Shuffling, "no node to demote", (*view).mustDemote, nil, true},

		{Shuffling, "no node for the new role", func(v *view) bool { return v.changesRole() && !v.canPlace(v.d.Intent.Role) }, nil, true},
		{Shuffling, "let go of the old role", func(v *view) bool { return v.changesRole() && v.holder() != nil }, (*view).releaseHolder, false},
		{Shuffling, "map in the new role", (*view).changesRole, (*view).place, false},
		{Shuffling, "let go to resync", (*view).mustResync, (*view).releaseHolder, false},

		{Unassociated, "no node", func(v *view) bool { return !v.targetLives() && !v.canPlace(v.d.Intent.Role) }, nil, true},
		{Unassociated, "map", func(v *view) bool { return !v.targetLives() }, (*view).place, false},
		{Shuffling, "rebalance", (*view).mustMove, (*view).rebalance, false},
		{Associated, "held", (*view).settled, nil, false},
		{Associating, "return to the copy", (*view).belongsToACopy, (*view).placeAtCopy, false},
		{Associating, "move elsewhere", (*view).failsHere, (*view).placeElsewhere, false},
		{Associating, "acquire", func(*view) bool { return true }, (*view).acquire, false},
	}
}

// view is one directory in the light of everything else.
type view struct {
	s         *State
	d         *Directory
	a         *Assignments
	now       events.Instant
	operation string
	forgotten bool // its removal is complete
}

func newView(s *State, id events.DirectoryID, now events.Instant, operation string) *view {
	d, known := s.Directories[id]
	if !known {
		d = s.Forgotten[id]
	}
	if d == nil {
		return nil
	}
	a := s.Assignments[id]
	if a == nil {
		a = newAssignments()
	}
	return &view{s, d, a, now, operation, !known}
}

func (v *view) alive(seat Seat) bool {
	i, ok := v.s.Instances[Key{seat.Node, seat.Service}]
	return ok && i.Incarnation == seat.Incarnation
}

// asked reports whether a live instance has a request that it has not answered.
func (v *view) asked() bool { return v.askedTo(true) || v.askedTo(false) }

// Who is asked to discard an old copy holds nothing: nobody waits for that.
func (v *view) askedTo(release bool) bool {
	for _, r := range v.a.Pending {
		if r.Release == release && !r.Discard && v.alive(seatOf(r.Assignment)) {
			return true
		}
	}
	return false
}

// target is the live instance that the mapping names.
func (v *view) target() (Seat, bool) {
	k := v.d.Mapping.key()
	i, ok := v.s.Instances[k]
	return Seat{k.Node, k.Service, i.Incarnation}, ok && v.d.Mapping.Epoch > 0
}

func (v *view) targetLives() bool { _, ok := v.target(); return ok }

// holder is the holder at the target.
func (v *view) holder() *Holder {
	seat, lives := v.target()
	if h, ok := v.a.Holders[seat]; ok && lives {
		return &h
	}
	return nil
}

func (v *view) holderAcquired() bool { h := v.holder(); return h != nil && h.Acquired }

// settled reports whether the directory is where and what it should be.
func (v *view) settled() bool {
	h := v.holder()
	return h != nil && h.Acquired && !h.Doubtful && h.Assignment.Epoch == v.d.Mapping.Epoch
}

// liveHolders returns those that may hold the directory now, in a fixed order.
func (v *view) liveHolders(counts func(Seat) bool) []Holder {
	var live []Holder
	for seat, h := range v.a.Holders {
		if v.alive(seat) && counts(seat) {
			live = append(live, h)
		}
	}
	slices.SortFunc(live, func(a, b Holder) int {
		return cmp.Or(strings.Compare(a.Assignment.Node, b.Assignment.Node), strings.Compare(string(a.Assignment.Role), string(b.Assignment.Role)))
	})
	return live
}

func (v *view) anyHolder() *Holder { return first(v.liveHolders(func(Seat) bool { return true })) }

// stray is a live holder other than the target: it was silent while the directory went
// elsewhere. So is the target itself if another incarnation of it, or another node, was
// asked to hold the directory meanwhile: it may be fenced without knowing.
func (v *view) stray() *Holder {
	target, lives := v.target()
	return first(v.liveHolders(func(s Seat) bool { return !lives || s != target || v.a.Holders[s].Replaced }))
}

func first(holders []Holder) *Holder {
	if len(holders) == 0 {
		return nil
	}
	return &holders[0]
}

func (v *view) changesRole() bool {
	return v.d.Mapping.Epoch > 0 && v.d.Mapping.Role != v.d.Intent.Role
}

// mustDemote reports whether the site owns the directory and should not: the ownership is
// ended in the journal, by a master, before anyone follows.
func (v *view) mustDemote() bool {
	return v.changesRole() && v.d.Intent.Role == events.Slave && v.a.Owned
}

// mustResync reports whether the target holds a replica, and was not told of the newest
// resync as it was asked to acquire it.
func (v *view) mustResync() bool {
	h := v.holder()
	return h != nil && v.d.Mapping.Role == events.Slave && h.Resync < v.d.Resync.Wanted
}

// promotes reports whether an acquire as master takes the ownership over.
func (v *view) promotes() bool { return v.d.Intent.Promoted && !v.a.Owned }

// proposes reports whether the other sites are being asked for their consent.
func (v *view) proposes() bool {
	p := v.d.Proposal
	return p.Sequence > 0 && v.now.Sub(p.At) < proposalTime
}

// failure is the newest failure, unless a refused change of role has answered it.
func (v *view) failure() *Failure {
	f := v.a.Failure
	if f == nil || f.Assignment.Operation == v.d.Refusal.Operation || f.Assignment.Epoch != v.d.Mapping.Epoch {
		return nil
	}
	return f
}

// refused reports whether the change of role that is under way failed for good.
func (v *view) refused() bool {
	f := v.failure()
	if f == nil || passing(f.Code) && f.Count < refuseAfter {
		return false
	}
	if v.d.Intent.Role == events.Slave {
		return v.mustDemote() && f.Demote
	}
	return v.promotes() && (f.Release || f.Assignment.Role == events.Master)
}

// passing reports whether a failure may pass by itself.
func passing(c fault.Code) bool {
	switch c {
	case fault.Timeout, fault.Internal, fault.NoSpace, fault.Fenced, fault.NotReady:
		return true
	}
	return false
}

// failsHere reports whether a replica is better off at another node.
func (v *view) failsHere() bool {
	f := v.failure()
	return v.d.Intent.Role == events.Slave && f != nil && !f.Release && f.Count >= moveAfter && v.pick(events.Slave, v.d.Mapping.Node) != ""
}

// choose keeps the present node if it lives: it has the copy, unless that is not complete.
func (v *view) choose(role events.Role) string {
	if node := v.d.Mapping.Node; node != "" && (role == events.Slave || !v.savedElsewhere()) {
		if _, lives := v.s.Instances[Key{node, events.ServiceOf(role)}]; lives {
			return node
		}
	}
	if role == events.Master {
		if node := v.copyFor(role); node != "" {
			return node
		}
	}
	return v.pick(role, "")
}

func (v *view) canPlace(role events.Role) bool { return v.choose(role) != "" }

// notBefore is when a request that failed may be made again. Where the clock by which it
// failed is ahead of this one, or this one was put back, it is counted from when it was made:
// a wrong clock must not put a directory off for hours.
func (v *view) notBefore(r Request) events.Instant {
	f := v.failure()
	if f == nil || !sameTask(f.Request, r) {
		return 0
	}
	since := f.At
	if since > v.now {
		since = f.Request.At
	}
	if since > v.now {
		return 0
	}
	return since + events.Instant(min(retryFirst<<min(f.Count-1, 10), retryMax))
}
