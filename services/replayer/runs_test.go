package replayer

import (
	"bytes"
	"testing"

	"tidemark/events"
	"tidemark/internal/sitetest"
)

// parts publishes parts first to last of a change of count parts, each a message of its own.
func (s *script) parts(image *scripted, data [][]byte, first, last int) {
	s.t.Helper()
	for i := first; i <= last; i++ {
		offset := uint64(i * len(data[i]))
		s.changeOf(image, events.Written{Image: image.id, Offset: offset, Data: data[i]},
			events.Part{Index: uint32(i), Count: uint32(len(data))}, offset, data[i])
		s.publish()
	}
}

// threeParts is the data of a change that goes beyond one message.
func threeParts() [][]byte {
	data := make([][]byte, 3)
	for i := range data {
		data[i] = bytes.Repeat([]byte{byte('a' + i)}, events.PayloadMax)
	}
	return data
}

// heir is a site whose follower follows a script, and whose journal service can take over.
func heir(t *testing.T, o *origin) *party {
	t.Helper()
	p := newParty(t, "west", westID)
	addPeer(t, p.at, o.site.Node.Site, o.site.Server.URL())
	p.follow()
	return p
}

// A copy that is promoted while a change of several entries is on its way holds all of the
// change or nothing of it.
func TestPromotedCopyHoldsWholeRunsOnly(t *testing.T) {
	t.Parallel()
	for name, arrived := range map[string]int{"all but the last part": 1, "every part": 2} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t)
			o.create("disk0", 4<<20)
			o.random(20)
			o.settle()
			west := heir(t, o)
			sitetest.Eventually(t, "west is level", west.follower.level(o.mark()))
			want := bytes.Clone(o.want("disk0"))
			data := threeParts()
			o.parts(o.images[0], data, 0, arrived)
			if arrived == len(data)-1 {
				want = o.want("disk0")
			}
			sitetest.Eventually(t, "west has received it", west.follower.received(o.mark()))
			west.release()
			west.own(events.TagForced)
			if !bytes.Equal(west.read("vms/prod/disk0"), want) {
				t.Fatal("the promoted copy holds something else")
			}
			west.write("disk0", []byte("after"), 3<<20)
			copy(want[3<<20:], "after")
			west.restartOwner()
			west.own("")
			if !bytes.Equal(west.read("vms/prod/disk0"), want) {
				t.Fatal("the promoted copy holds something else after a restart")
			}
		})
	}
}

// A follower that is restarted inside of a change stores the parts as they come, serves the
// copy as it was before, and applies the change when it is complete.
func TestFollowerRestartsInsideARun(t *testing.T) {
	t.Parallel()
	o, s, at, stop := levelWest(t, 4<<20, 20)
	before := bytes.Clone(o.want("disk0"))
	data := threeParts()
	o.parts(o.images[0], data, 0, 1)
	o.head()
	sitetest.Eventually(t, "west has stored two parts", func() bool { return s.followers[westID].marks().Safe.Same(o.mark()) })
	stop()
	s, _ = follow(t, at)
	sitetest.Eventually(t, "west goes on", func() bool {
		f := s.followers[westID]
		_, err := f.Served()
		return err == nil && f.marks().Logged.Same(o.mark())
	})
	if !bytes.Equal(content(t, s, "disk0", len(before)), before) {
		t.Fatal("a part of a change is seen")
	}
	o.parts(o.images[0], data, 2, 2)
	o.settle()
	sitetest.Eventually(t, "west is level again", s.level(o.mark()))
	if !bytes.Equal(content(t, s, "disk0", len(before)), o.want("disk0")) {
		t.Fatal("west differs from east")
	}
}
