package replayer

import (
	"bytes"
	"testing"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/sitetest"
)

// A replica that goes to another node and comes back finds its old copy there, which does not
// fit the site's journal any more: it is served until a new one has taken its place. Where no
// other node had the directory, that is a loss, which only an operator gives up.
func TestReplicaComesBackToANode(t *testing.T) {
	o := newOrigin(t)
	o.create("disk0", 8<<20)
	o.random(100)
	o.settle()
	s, at, stop := west(t, t.TempDir(), o)
	sitetest.Eventually(t, "the first node is level", s.level(o.mark()))
	o.random(50) // followed, not copied
	o.settle()
	sitetest.Eventually(t, "the first node follows", s.level(o.mark()))
	stop()

	other := *at
	other.Node.Name, other.Node.Data, other.Node.Incarnation = "n2", t.TempDir(), "inc-2"
	o.random(100)
	o.settle()
	s2, stop2 := follow(t, &other)
	sitetest.Eventually(t, "the second node is level", s2.level(o.mark()))
	o.random(50)
	o.settle()
	sitetest.Eventually(t, "the second node follows", s2.level(o.mark()))
	stop2()
	o.random(100)
	o.settle()

	back := New(Deps{Bus: at.Bus, Node: at.Node, Log: at.Log, JournalBytesMax: 1 << 30})
	sitetest.Run(t, back.Run)
	<-back.Ready()
	acquire := &events.AcquireRequested{
		Assignment: events.Assignment{Operation: "3", Directory: westID, Node: at.Node.Name, Role: events.Slave, Epoch: 3},
		Pool:       "vms", Path: "/prod",
	}
	if _, err := back.Acquire(t.Context(), acquire); err == nil {
		t.Fatal("a copy that does not fit the journal was opened")
	}
	acquire.Elsewhere = true
	if _, err := back.Acquire(t.Context(), acquire); err != nil {
		t.Fatalf("acquire: %v", err)
	}
	sitetest.Eventually(t, "the first node is level again", back.level(o.mark()))
	if !bytes.Equal(content(t, back, "disk0", 8<<20), o.want("disk0")) {
		t.Error("the copy differs from its source")
	}
}

// noted counts what listeners were told of a directory.
func noted(t *testing.T, at *sitetest.Site, what events.Lifecycle) (n int) {
	t.Helper()
	end, err := at.Bus.State(t.Context(), events.StreamLifecycle)
	if err != nil {
		t.Fatal(err)
	}
	err = at.Bus.ReadTo(t.Context(), events.StreamLifecycle, end.First, end.Last, func(m bus.Message) error {
		fact, err := events.Unmarshal(m.Data)
		if turn, ok := fact.(*events.LifecycleNoted); ok && turn.What == what {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// While a replica is on its way to a node without a copy, the one that it left is the only
// complete one of the site: the journal that it goes on from is left alone until the new copy
// is complete too. So a site whose primary is lost in between has all that it had received.
func TestCopyIsKeptWhileTheReplicaMoves(t *testing.T) {
	o := newOrigin(t)
	o.create("disk0", 8<<20)
	o.random(100)
	o.settle()
	at := sitetest.Start(t, "west")
	link := sitetest.NewLink(t, o.site.Server.URL())
	addPeer(t, at, o.site.Node.Site, link.URL)
	s, stop := follow(t, at)
	sitetest.Eventually(t, "the first node is level", s.level(o.mark()))
	o.random(50)
	o.settle()
	sitetest.Eventually(t, "the first node follows", s.level(o.mark()))
	stop()
	link.Cut()

	acquired := func(at sitetest.Site, node string, epoch uint64) (s *Service, stop func()) {
		s = New(Deps{Bus: at.Bus, Node: at.Node, Log: at.Log, JournalBytesMax: 1 << 30})
		stop = sitetest.Run(t, s.Run)
		<-s.Ready()
		_, err := s.Acquire(t.Context(), &events.AcquireRequested{
			Assignment: events.Assignment{Operation: node, Directory: westID, Node: node, Role: events.Slave, Epoch: epoch},
			Pool:       "vms", Path: "/prod", Elsewhere: true,
		})
		if err != nil {
			t.Fatalf("acquire: %v", err)
		}
		return s, stop
	}
	other := *at
	other.Node.Name, other.Node.Data, other.Node.Incarnation = "n2", t.TempDir(), "inc-2"
	s2, stop2 := acquired(other, "n2", 2)
	sitetest.Eventually(t, "the second node tells that its copy is not complete", func() bool {
		m, err := at.Bus.Last(t.Context(), events.StreamPositions, (&events.DirectoryMeasured{Directory: westID, Client: s2.clients.Self()}).Subject())
		if err != nil {
			return false
		}
		fact, err := events.Unmarshal(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		return !fact.(*events.DirectoryMeasured).Complete
	})
	stop2()

	s3, stop3 := acquired(*at, at.Node.Name, 3)
	sitetest.Eventually(t, "the first node has all that was received", s3.level(o.mark()))
	if !bytes.Equal(content(t, s3, "disk0", 8<<20), o.want("disk0")) {
		t.Error("the copy differs from its source")
	}
	stop3()

	link.Heal()
	s4, _ := acquired(other, "n2", 4)
	sitetest.Eventually(t, "the second node is level", s4.level(o.mark()))
	if !bytes.Equal(content(t, s4, "disk0", 8<<20), o.want("disk0")) {
		t.Error("the copy differs from its source")
	}
	// All that is no failure, and nothing was lost.
	sitetest.Eventually(t, "the end of the copying is noted", func() bool { return noted(t, at, events.ResyncEnded) == 1 })
	if n := noted(t, at, events.Failed) + noted(t, at, events.LostTail); n != 0 {
		t.Errorf("%d failures were noted", n)
	}
}

// At the end of a chain a replica moves as well: its new copy comes from where a first sync
// would take it, which is no primary.
func TestReplicaMovesAtTheEndOfAChain(t *testing.T) {
	c := newChain(t)
	c.east.write("disk0", []byte("after"), 1<<20)
	c.north.sameAs(c.east)
	c.north.release()
	at := *c.north.at
	at.Node.Name, at.Node.Data, at.Node.Incarnation = "n2", t.TempDir(), "inc-2"
	c.north.at = &at
	c.north.restartFollower()
	_, err := c.north.follower.Acquire(t.Context(), &events.AcquireRequested{
		Assignment: events.Assignment{Operation: "4", Directory: northID, Node: "n2", Role: events.Slave, Epoch: 4},
		Pool:       "vms", Path: "/prod", Elsewhere: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.east.write("disk0", []byte("later"), 2<<20)
	c.north.sameAs(c.east)
}
