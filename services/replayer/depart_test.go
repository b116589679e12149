package replayer

import (
	"context"
	"errors"
	"testing"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/sitetest"
)

// lastWord returns what the origin's site knows of west.
func (o *origin) lastWord() *events.PositionCommitted {
	o.t.Helper()
	m, err := o.site.Bus.Last(o.t.Context(), events.StreamPositions, events.PositionSubject(eastID, "west.node"))
	if err != nil {
		o.t.Fatal(err)
	}
	fact, err := events.Unmarshal(m.Data)
	if err != nil {
		o.t.Fatal(err)
	}
	return fact.(*events.PositionCommitted)
}

// release ends the following of the directory, and removes its copy if that is asked for.
func (s *Service) release(t *testing.T, remove bool) {
	t.Helper()
	if _, _, err := s.Release(t.Context(), &events.ReleaseRequested{
		Assignment: events.Assignment{Directory: westID, Role: events.Slave}, Pool: "vms", Path: "/prod", Remove: remove,
	}); err != nil {
		t.Fatal(err)
	}
}

func (s *Service) acquire(t *testing.T) {
	t.Helper()
	if _, err := s.Acquire(t.Context(), &events.AcquireRequested{
		Assignment: events.Assignment{Operation: "2", Directory: westID, Role: events.Slave, Epoch: 2},
		Pool:       "vms", Path: "/prod",
	}); err != nil {
		t.Fatal(err)
	}
}

// A follower that is released is no client any more; but if the directory is acquired again
// before its source heard so, that word is not said of the new registration, neither by this
// process nor by one that was killed when it had sent it.
func TestDepartureEndsNoLaterRegistration(t *testing.T) {
	t.Parallel()
	o, s, _, _ := levelWest(t, 4<<20, 20)
	f := s.followers[westID]
	last := f.lastSource()
	s.release(t, false)
	sitetest.Eventually(t, "west is no client", func() bool { return o.lastWord().State == events.ClientRemoved })
	sitetest.Eventually(t, "the departure has ended", func() bool {
		s.departures.mu.Lock()
		defer s.departures.mu.Unlock()
		return len(s.departures.of) == 0
	})

	pending, end := s.departures.begin(context.WithoutCancel(t.Context()), westID, last.peer.Peer)
	defer end()
	elsewhere, end := s.departures.begin(t.Context(), westID, "another peer")
	defer end()
	east := &source{talk: &wire{Bus: o.site.Bus}, directory: eastID}
	over, err := f.lastWord(pending, east)
	if err != nil {
		t.Fatal(err)
	}
	s.acquire(t)
	sitetest.Eventually(t, "west follows again", func() bool { return s.followers[westID].lastSource() != nil })
	if !errors.Is(context.Cause(pending), errFollowsAgain) || elsewhere.Err() != nil {
		t.Errorf("pending %v, elsewhere %v", context.Cause(pending), elsewhere.Err())
	}
	f.leave(pending, last)
	if got := o.lastWord().State; got != events.ClientConnected {
		t.Errorf("west follows and is %s", got)
	}
	if err := f.removeOver(t.Context(), east, over); !errors.Is(err, bus.ErrOvertaken) {
		t.Errorf("a word that was sent before west registered is heard: %v", err)
	}
	if got := o.lastWord().State; got != events.ClientConnected {
		t.Errorf("west follows and is %s", got)
	}
	s.release(t, false)
	sitetest.Eventually(t, "west is no client", func() bool { return o.lastWord().State == events.ClientRemoved })
}
