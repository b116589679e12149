package policy

import (
	"tidemark/events"
	"tidemark/internal/fault"
)

// Assignments is what NOTIFICATIONS says about one directory.
type Assignments struct {
	// Holders are those that may hold the directory: they were asked to acquire it, and
	// neither refused nor let go of it quiesced. One whose incarnation is gone counts
	// for nothing; it stays here because an incarnation that was only silent returns.
	Holders map[Seat]Holder
	Pending map[string]Request // not acknowledged, by operation
	// Owned is set while the site owns the directory: from the first acquire as master
	// to a release that demoted, or an acquire as slave.
	Owned bool
	// Held is set once any acquire succeeded: there is a copy. Copies are the nodes that have
	// acquired the directory and did not delete their copy since, with the epoch in which they
	// did so last.
	Held   bool
	Copies map[string]uint64
	// Removed is set once a release that removes the copy succeeded.
	Removed bool
	// Failure is the newest failed operation; nil once one succeeded.
	Failure *Failure
	// Kept is the newest refusal to delete an old copy. It says nothing about who holds the
	// directory, and is no Failure.
	Kept *Failure
}

// Seat is one incarnation of a service of a node.
type Seat struct{ Node, Service, Incarnation string }

// Holder is who may hold a directory.
type Holder struct {
	Assignment events.Assignment
	// Acquired is set when it said that it holds the directory; Doubtful when it was
	// asked to let go since, whatever came of that.
	Acquired, Doubtful bool
	// Replaced is set when another was asked to acquire the directory since: what it
	// said before says nothing about what it holds now.
	Replaced bool
	// Resync is the number of the resync that it was asked for as it was asked to acquire.
	Resync uint64
}

// Request is an acquire or release.
type Request struct {
	Assignment              events.Assignment
	Release, Demote, Remove bool
	Discard                 bool   // a release of who does not hold it: only the old copy there is deleted
	Resync                  uint64 // of an acquire: the number of the resync that it asks for
	At                      events.Instant
}

// Failure is a failed acquire or release.
type Failure struct {
	Request
	Code    fault.Code
	Message string
	At      events.Instant
	Count   int // failures in a row of the same request to the same instance
}

func newAssignments() *Assignments {
	return &Assignments{Holders: map[Seat]Holder{}, Pending: map[string]Request{}, Copies: map[string]uint64{}}
}

func seatOf(a events.Assignment) Seat {
	return Seat{a.Node, events.ServiceOf(a.Role), a.Incarnation}
}

func (a *Assignments) requested(r Request) {
	a.Pending[r.Assignment.Operation] = r
	seat := seatOf(r.Assignment)
	h, known := a.Holders[seat]
	switch {
	case !r.Release:
		for other, h := range a.Holders {
			h.Replaced = true
			a.Holders[other] = h
		}
		a.Holders[seat] = Holder{Assignment: r.Assignment, Resync: r.Resync}
		a.forgetOldest(seat)
	case known && !r.Discard:
		h.Doubtful = true
		a.Holders[seat] = h
	}
}

// incarnationsMax is how many incarnations of one service of a node are remembered as holders.
const incarnationsMax = 16

// forgetOldest forgets the oldest incarnation of a service of a node where there are too many:
// each start leaves one. Whoever is fenced for a later one is fenced for it too.
func (a *Assignments) forgetOldest(of Seat) {
	count, oldest := 0, of
	for seat, h := range a.Holders {
		if seat.Node != of.Node || seat.Service != of.Service {
			continue
		}
		count++
		if o := a.Holders[oldest]; h.before(o) {
			oldest = seat
		}
	}
	if count > incarnationsMax && oldest != of {
		delete(a.Holders, oldest)
	}
}

// take returns the request that an acknowledgement answers. One that does not repeat an
// open request exactly changes nothing.
func (a *Assignments) take(ack events.Assignment, release bool) (Request, bool) {
	r, ok := a.Pending[ack.Operation]
	if !ok || r.Assignment != ack || r.Release != release {
		return Request{}, false
	}
	delete(a.Pending, ack.Operation)
	return r, true
}

func (a *Assignments) acquired(f *events.AcquireAcknowledged) {
	r, ok := a.take(f.Assignment, false)
	if !ok {
		return
	}
	seat := seatOf(f.Assignment)
	current := a.Holders[seat].Assignment == f.Assignment
	if f.Code != "" {
		a.fail(r, fault.Code(f.Code), f.Message, f.At)
		// Fenced is what the notifier answers in the place of an instance that is gone:
		// it may have acquired the directory, and may yet come back.
		if current && f.Code != string(fault.Fenced) {
			delete(a.Holders, seat)
		}
		return
	}
	a.Failure = nil
	a.Held, a.Removed = true, false
	a.Copies[f.Node] = f.Epoch
	a.Owned = f.Role == events.Master
	if current {
		a.Holders[seat] = Holder{Assignment: f.Assignment, Acquired: true, Resync: r.Resync}
	}
}

func (a *Assignments) released(f *events.ReleaseAcknowledged) {
	r, ok := a.take(f.Assignment, true)
	if !ok {
		return
	}
	code, message := fault.Code(f.Code), f.Message
	switch {
	case r.Discard && code == "":
		delete(a.Copies, f.Node)
		return
	case r.Discard:
		a.Kept = &Failure{Request: r, Code: code, Message: message, At: f.At, Count: 1}
		return
	case code == fault.NotFound:
		// Nothing was held. That is no demotion: it is tried again after an acquire.
		delete(a.Holders, seatOf(f.Assignment))
		a.removed(r)
		return
	case code == "" && !f.Quiesced:
		code, message = fault.Timeout, "the directory was let go, but is still in motion"
	}
	if code != "" {
		a.fail(r, code, message, f.At)
		return
	}
	delete(a.Holders, seatOf(f.Assignment))
	a.Failure = nil
	a.Owned = a.Owned && !r.Demote
	a.removed(r)
}

// removed notes that a release deleted the copy, if it was to.
func (a *Assignments) removed(r Request) {
	if r.Remove {
		a.Removed = true
		delete(a.Copies, r.Assignment.Node)
	}
}

func (a *Assignments) fail(r Request, code fault.Code, message string, at events.Instant) {
	count := 1
	if a.Failure != nil && sameTask(a.Failure.Request, r) {
		count += a.Failure.Count
	}
	a.Failure = &Failure{r, code, message, at, count}
}

// sameTask reports whether two requests ask the same of the same instance.
func sameTask(a, b Request) bool {
	a.Assignment.Operation, b.Assignment.Operation, a.At, b.At = "", "", 0, 0
	return a == b
}
