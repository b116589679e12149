package replayer

import (
	"bytes"
	"testing"

	"tidemark/events"
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
