package notifier

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"tidemark/events"
)

// Reasons of an InstanceRemoved.
const (
	reasonLeft   = "left"
	reasonSilent = events.ReasonSilent
)

// sighting is the newest heartbeat of one incarnation.
type sighting struct {
	incarnation string
	at          time.Time
	leaving     bool
}

// Roster is what was heard since this notifier started. It is not part of the fold: a
// notifier that starts gives everybody that the log knows a fresh grace.
type Roster struct {
	silence time.Duration
	heard   map[Key]sighting
	last    time.Time // of the last tick
}

// NewRoster starts listening: now is when silence is counted from.
func NewRoster(silence time.Duration, now time.Time) *Roster {
	return &Roster{silence: silence, heard: map[Key]sighting{}, last: now}
}

// Heard notes a heartbeat, unless it comes from an incarnation that is gone by the log: its
// agent finds that there, and comes back with another.
func (r *Roster) Heard(s *State, h *events.Heartbeat, now time.Time) {
	k := Key{h.Node, h.Service}
	_, heard := r.heard[k]
	if s.Instances[k].gone(h.Incarnation) || !heard && len(r.heard) >= instancesMax {
		return
	}
	r.heard[k] = sighting{h.Incarnation, now, h.Leaving}
}

// Refresh gives everybody a fresh grace: this process could not have heard them.
func (r *Roster) Refresh(now time.Time) {
	for k, s := range r.heard {
		s.at = now
		r.heard[k] = s
	}
	r.last = now
}

// Decide returns the facts about instances that the log lacks, in a fixed order. A clock
// that jumped (this process was stopped) refreshes everybody instead.
func (r *Roster) Decide(s *State, now time.Time) []events.Fact {
	if now.Sub(r.last) > r.silence/2 {
		r.Refresh(now)
	}
	r.last = now
	for k, i := range s.Instances {
		// Another notifier may have added an incarnation that was not heard here yet: it must
		// not be taken for silent because the one before it is, nor that for a new one.
		heard, ok := r.heard[k]
		switch {
		case i.Alive && (!ok || i.gone(heard.incarnation)):
			r.heard[k] = sighting{i.Incarnation, now, false}
		case i.gone(heard.incarnation):
			delete(r.heard, k)
		}
	}
	var facts []events.Fact
	for _, k := range r.keys() {
		if f := r.about(s, k, now); f != nil {
			facts = append(facts, f)
		}
	}
	return facts
}

func (r *Roster) keys() []Key {
	keys := make([]Key, 0, len(r.heard))
	for k := range r.heard {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Service, b.Service))
	})
	return keys
}

func (r *Roster) about(s *State, k Key, now time.Time) events.Fact {
	heard, known := r.heard[k], s.Instances[k]
	silent := now.Sub(heard.at) > r.silence
	removed := func(incarnation, reason string) events.Fact {
		return &events.InstanceRemoved{
			Node: k.Node, Service: k.Service, Incarnation: incarnation, Reason: reason, At: events.InstantOf(now),
		}
	}
	switch {
	case known.Alive && known.Incarnation == heard.incarnation && heard.leaving:
		return removed(known.Incarnation, reasonLeft)
	case known.Alive && silent:
		return removed(known.Incarnation, reasonSilent)
	case heard.leaving || silent:
		// It came and went, or a former incarnation says goodbye: the log need not know.
		if !known.Alive {
			delete(r.heard, k)
		}
		return nil
	case !known.Alive || known.Incarnation != heard.incarnation:
		return &events.InstanceAdded{
			Node: k.Node, Service: k.Service, Incarnation: heard.incarnation, At: events.InstantOf(now),
		}
	}
	return nil
}

const (
	retryFirst = 250 * time.Millisecond
	retryMax   = 5 * time.Second
)

// retryAfter is the pause after the n-th attempt (from 1) to deliver a request.
func retryAfter(n int) time.Duration {
	return min(retryFirst<<min(n-1, 10), retryMax)
}
