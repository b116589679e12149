package notifier

import (
	"slices"

	"tidemark/events"
)

// Key names a service of a node.
type Key struct{ Node, Service string }

// Instance is what the log says about a service of a node.
type Instance struct {
	Incarnation string // the newest that was added
	Alive       bool
	Since       events.Instant
	// Silent is when it was taken for dead because it was not heard; zero while it is
	// alive, and for one that left.
	Silent events.Instant
	// Former holds incarnations that are gone, oldest first: they left, fell silent, or
	// another one took their place. None comes back: what it held was given on.
	Former []string
}

const (
	formerMax    = 16   // former incarnations remembered for each instance
	instancesMax = 4096 // instances listened to
)

// Request is an acquire or release that nobody has acknowledged yet.
type Request struct {
	Sequence   uint64
	Assignment events.Assignment
	Fact       events.Fact // *events.AcquireRequested or *events.ReleaseRequested
}

// State is the fold of the streams INSTANCES and NOTIFICATIONS. Neither of its halves
// depends on the other, so it does not matter how the two streams interleave.
type State struct {
	Instances map[Key]Instance
	// Waiting holds, for each directory, what is not acknowledged, in the order of the
	// log. A directory without any is not in it.
	Waiting map[events.DirectoryID][]Request
}

// NewState returns the state of empty streams.
func NewState() *State {
	return &State{Instances: map[Key]Instance{}, Waiting: map[events.DirectoryID][]Request{}}
}

// Evolve adds one fact. Facts that make no sense change nothing.
func (s *State) Evolve(seq uint64, fact events.Fact) {
	switch f := fact.(type) {
	case *events.InstanceAdded:
		s.added(f)
	case *events.InstanceRemoved:
		s.removed(f)
	case *events.AcquireRequested:
		s.requested(Request{seq, f.Assignment, f})
	case *events.ReleaseRequested:
		s.requested(Request{seq, f.Assignment, f})
	case *events.AcquireAcknowledged:
		s.acknowledged(f.Assignment)
	case *events.ReleaseAcknowledged:
		s.acknowledged(f.Assignment)
	}
}

func (s *State) added(f *events.InstanceAdded) {
	k := Key{f.Node, f.Service}
	i := s.Instances[k]
	if i.Alive && i.Incarnation != f.Incarnation {
		i.retire(i.Incarnation)
	}
	// An older notifier took incarnations back: the log's last word counts.
	i.Former = slices.DeleteFunc(slices.Clone(i.Former), func(former string) bool { return former == f.Incarnation })
	i.Incarnation, i.Alive, i.Since, i.Silent = f.Incarnation, true, f.At, 0
	s.Instances[k] = i
}

func (s *State) removed(f *events.InstanceRemoved) {
	k := Key{f.Node, f.Service}
	i, known := s.Instances[k]
	if known && i.Incarnation == f.Incarnation && i.Alive {
		i.Alive = false
		if f.Reason == reasonSilent {
			i.Silent = f.At
		}
		i.retire(f.Incarnation)
		s.Instances[k] = i
	}
}

// retire remembers that an incarnation is gone.
func (i *Instance) retire(incarnation string) {
	i.Former = append(slices.Clone(i.Former), incarnation)
	if extra := len(i.Former) - formerMax; extra > 0 {
		i.Former = i.Former[extra:]
	}
}

// gone reports whether an incarnation lived once, and does not come back.
func (i Instance) gone(incarnation string) bool { return slices.Contains(i.Former, incarnation) }

func (s *State) requested(r Request) {
	d := r.Assignment.Directory
	for _, w := range s.Waiting[d] {
		if w.Assignment.Operation == r.Assignment.Operation {
			return
		}
	}
	s.Waiting[d] = append(s.Waiting[d], r)
}

func (s *State) acknowledged(a events.Assignment) {
	waiting := s.Waiting[a.Directory]
	for i, w := range waiting {
		if w.Assignment != a {
			continue
		}
		rest := append(append([]Request(nil), waiting[:i]...), waiting[i+1:]...)
		if len(rest) == 0 {
			delete(s.Waiting, a.Directory)
		} else {
			s.Waiting[a.Directory] = rest
		}
		return
	}
}

// Next returns the oldest request of a directory that waits.
func (s *State) Next(d events.DirectoryID) (Request, bool) {
	if waiting := s.Waiting[d]; len(waiting) > 0 {
		return waiting[0], true
	}
	return Request{}, false
}

// Waits reports whether an operation is still unacknowledged.
func (s *State) Waits(a events.Assignment) bool {
	for _, w := range s.Waiting[a.Directory] {
		if w.Assignment == a {
			return true
		}
	}
	return false
}

// Alive reports whether the addressed incarnation lives.
func (s *State) Alive(a events.Assignment) bool {
	i := s.Instances[Key{a.Node, events.ServiceOf(a.Role)}]
	return i.Alive && i.Incarnation == a.Incarnation
}
