package replayer

import (
	"testing"
	"time"

	"tidemark/internal/api"
	"tidemark/internal/sitetest"
)

// releaseMax is how long a follower takes at most to let go of a directory, whatever its
// source does.
const releaseMax = 2 * time.Second

// A first sync is ended in the middle, at once, over a sound link and over one that is dead;
// when the directory is followed again it goes on.
//
// journal 239: stopped while it starts. journal 266: cancelled while objects are copied.
func TestFirstSyncIsReleasedAtOnce(t *testing.T) {
	t.Parallel()
	l := newLinked(t)
	must[api.Image](l.east, api.ImageCreate, api.ImageCreateRequest{Image: "large", Size: 16 << 20, ObjectSize: 1 << 20})
	for off := range uint64(4) {
		l.east.write("large", noise(4<<20), off<<22)
	}
	l.limit(t, 4<<20)
	copied := func() uint64 {
		p := must[api.Status](l.west, api.DirectoryStatus, api.Nothing{}).Progress
		if p == nil {
			return 0
		}
		return p.Objects
	}
	had := uint64(0)
	for _, fail := range []func(){func() {}, l.link.BlackHole} {
		l.west.follow()
		sitetest.Eventually(t, "some objects more are copied", func() bool { return copied() > had })
		fail()
		began := time.Now()
		l.west.release()
		sitetest.Prompt(t, "a release", began, releaseMax)
		had++
	}
	l.link.Heal()
	l.limit(t, 0)
	l.west.follow()
	l.west.sameAs(l.east)
}

// journal 243: ten times the owner opens, writes and ends; each has a tag of its own.
// journal 256, 259: claims and entries are followed in order.
func TestManyTagsAreFollowed(t *testing.T) {
	t.Parallel()
	l := newLinked(t)
	l.west.follow()
	for i := range uint64(10) {
		l.east.restartOwner()
		l.east.own("")
		l.east.write("disk0", noise(4096), i<<12)
	}
	l.west.sameAs(l.east)
	at := must[api.Status](l.west, api.DirectoryStatus, api.Nothing{})
	if owner := must[api.Status](l.east, api.DirectoryStatus, api.Nothing{}); at.Tag != owner.Tag {
		t.Errorf("west has tag %d, east %d", at.Tag, owner.Tag)
	}
}
