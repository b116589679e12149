package replayer

import (
	"bytes"
	"strings"
	"testing"

	"tidemark/events"
	"tidemark/internal/sitetest"
)

// is reports whether the followed directory's status names a state, and why.
func (s *Service) is(t *testing.T, state State, why string) func() bool {
	return func() bool {
		status, err := s.followers[westID].status(t.Context())
		return err == nil && status.State == string(state) && strings.Contains(status.Error, why)
	}
}

// A follower that the owner's journal does not wait for any more stops and says why; it stays
// so, whatever the owner says later, until it is synced again.
//
// journal 246: live replay stops on notification, a start is refused again and again, and
// after a new sync all is well; without automatic resync.
func TestDisconnectedFollowerStopsUntilItIsSyncedAgain(t *testing.T) {
	t.Parallel()
	o, s, at, stop := levelWest(t, 4<<20, 20)
	kept := o.mark()

	o.disconnected.Store(true) // and the heads say so
	sitetest.Eventually(t, "west stops", s.is(t, Disconnected, "mirror resync vms/prod"))
	o.random(20)
	o.settle()

	o.disconnected.Store(false) // the owner forgets; this site does not
	stop()
	s, stop = follow(t, at)
	sitetest.Eventually(t, "west stays disconnected", s.is(t, Disconnected, "mirror resync vms/prod"))
	if got := s.followers[westID].marks().Logged; !got.Same(kept) {
		t.Fatalf("west went on to %v", got.Position)
	}
	sitetest.Eventually(t, "west has replayed what it has", func() bool {
		_, err := s.followers[westID].served()
		return err == nil
	})
	content(t, s, "disk0", 4<<20) // what it has it still shows

	s.release(t, true)
	stop()
	s, stop = follow(t, at)
	sitetest.Eventually(t, "west is synced anew", s.level(o.mark()))
	o.random(20)
	o.settle()
	sitetest.Eventually(t, "west follows", s.level(o.mark()))
	stop()
	s, _ = follow(t, at)
	o.random(20)
	o.settle()
	sitetest.Eventually(t, "west goes on after a restart", s.level(o.mark()))
	if !bytes.Equal(content(t, s, "disk0", 4<<20), o.want("disk0")) {
		t.Fatal("west differs from east")
	}
}

// One that was disconnected while it was away is told so when it registers.
func TestFollowerIsToldThatItWasDisconnectedWhileAway(t *testing.T) {
	t.Parallel()
	o, _, at, stop := levelWest(t, 4<<20, 0)
	kept := o.mark()
	stop()
	o.silence() // no head tells it
	o.disconnected.Store(true)
	o.random(20)
	s, _ := follow(t, at)
	sitetest.Eventually(t, "west is disconnected", s.is(t, Disconnected, errDisconnected.Error()))
	if got := s.followers[westID].marks().Logged; !got.Same(kept) {
		t.Fatalf("west went on to %v", got.Position)
	}
	if got := s.followers[westID].position(kept).State; got != events.ClientDisconnected {
		t.Errorf("west calls itself %s", got)
	}
}
