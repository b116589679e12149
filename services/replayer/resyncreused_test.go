package replayer

import (
	"bytes"
	"testing"

	"tidemark/events"
	"tidemark/internal/sitetest"
)

// A directory that was created again gives out the same tags, and so the same versions of
// other content. A resync to it takes nothing by its version from the copy of the former.
func TestResyncToAnotherLife(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	write := func(value byte) {
		data := bytes.Repeat([]byte{value}, 8192)
		o.create("disk0", 4<<20)
		o.entry(o.images[0], events.Written{Image: 1, Data: data}, 0, data)
		o.publish()
		o.settle()
	}
	write(1)
	s, _, _ := west(t, t.TempDir(), o)
	sitetest.Eventually(t, "west is level", s.level(o.mark()))
	former := o.mark()
	s.release(t, false)
	o.history, o.tag = "another", 0
	o.restartHistory()
	o.serve()
	write(2)
	if o.mark().Position != former.Position {
		t.Fatalf("positions %v and %v: the test is to reuse them", former.Position, o.mark().Position)
	}
	if _, err := s.Acquire(t.Context(), &events.AcquireRequested{
		Assignment: events.Assignment{Operation: "2", Directory: westID, Role: events.Slave, Epoch: 2},
		Pool:       "vms", Path: "/prod", Resync: 1,
	}); err != nil {
		t.Fatal(err)
	}
	sitetest.Eventually(t, "west holds the new directory", s.level(o.mark()))
	if !bytes.Equal(content(t, s, "disk0", 4<<20), o.want("disk0")) {
		t.Error("west holds something of the former directory")
	}
}
