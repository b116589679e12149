package replayer

import (
	"errors"
	"testing"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
	"tidemark/internal/tail"
)

// directories 80, 82, 143: a follower that was fenced finds that out when it says how far it
// has come, applies and says nothing more, at either site. Asked again in
// a later epoch it goes on where it stood, and ends as the origin is.
func TestFencedFollower(t *testing.T) {
	o, s, at, _ := levelWest(t, 4<<20, 50)
	f := s.followers[westID]
	at.Fence(t, westID, 1)
	o.random(50)
	o.settle()
	sitetest.Eventually(t, "west is fenced", func() bool {
		if own := f.copy(); own != nil {
			own.tail.Hurry()
		}
		return f.tenure.Over() && f.copy() == nil
	})
	stood, there := f.marks(), o.lastWord()
	o.random(100)
	o.settle()
	if err := f.failure(); !errors.Is(err, tail.ErrFenced) {
		t.Errorf("it says %v", err)
	}
	r := &events.AcquireRequested{
		Assignment: events.Assignment{Operation: "2", Directory: westID, Role: events.Slave, Epoch: 1}, Pool: "vms", Path: "/prod",
	}
	if _, err := s.Acquire(t.Context(), r); fault.CodeOf(err) != fault.Fenced {
		t.Errorf("acquired in a fenced epoch: %v", err)
	}
	if now := f.marks(); now != stood || f.copy() != nil {
		t.Errorf("a fenced follower went on from %+v to %+v", stood, now)
	}
	if said := o.lastWord(); *said != *there {
		t.Errorf("a fenced follower told the source %+v", said)
	}
	m, err := at.Bus.Last(t.Context(), events.StreamPositions, events.PositionSubject(westID, s.clients.Self()))
	if err != nil {
		t.Fatal(err)
	}
	fence, err := at.Bus.Last(t.Context(), events.StreamPositions, events.FenceSubject(westID))
	if err != nil || m.Sequence > fence.Sequence {
		t.Errorf("a fenced follower published message %d, behind the fence %d: %v", m.Sequence, fence.Sequence, err)
	}
	r.Operation, r.Epoch = "3", 2
	if _, err := s.Acquire(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	sitetest.Eventually(t, "west goes on", s.level(o.mark()))
}

// directories 143: the same where a copy took another's place, so that the site's journal is to begin
// anew: a follower that is fenced after it has opened the copy leaves the journal to its successor.
func TestFencedFollowerDropsNoJournal(t *testing.T) {
	o, s, at, stop := levelWest(t, 4<<20, 0)
	o.random(5)
	o.settle()
	sitetest.Eventually(t, "west has a journal", s.level(o.mark()))
	stop()
	s = New(Deps{Bus: at.Bus, Node: at.Node, Log: at.Log})
	f := newFollower(s, &events.AcquireRequested{
		Assignment: events.Assignment{Directory: westID, Role: events.Slave, Epoch: 1}, Pool: "vms", Path: "/prod",
	})
	r, err := f.openReplica()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if err := r.TakePlace(1, ""); err != nil {
		t.Fatal(err)
	}
	at.Fence(t, westID, 1)
	if _, err := f.openJournal(t.Context(), r); !errors.Is(err, tail.ErrFenced) {
		t.Errorf("a fenced follower: %v", err)
	}
	name := events.JournalStream(events.DirectoryName{Pool: "vms", Path: "/prod"}, westID)
	if state, err := at.Bus.State(t.Context(), name); err != nil || state.Last == 0 {
		t.Errorf("its successor's journal ends at %d, %v", state.Last, err)
	}
}
