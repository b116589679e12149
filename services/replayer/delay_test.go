package replayer

import (
	"bytes"
	"context"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/sitetest"
)

// configure sets how the directory is followed here.
func (p *party) configure(delay time.Duration) {
	p.t.Helper()
	_, err := p.at.Bus.Publish(context.Background(), events.StreamDirectories, &events.DirectoryConfigured{
		Directory: p.id, Pool: "vms", Delay: delay,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	sitetest.Eventually(p.t, "the delay is known", func() bool { return p.follower.settings(p.id).Delay == delay })
}

// holdsBack waits until a follower has stored all that its owner has logged, and checks that it
// has applied nothing since the mark before.
func (p *party) holdsBack(owner *party, before events.Mark) {
	p.t.Helper()
	sitetest.Eventually(p.t, "everything is stored", func() bool {
		s := p.status() // stopped until the primary is heard
		return s.Position.Same(owner.status().Position) && s.State == string(Replaying)
	})
	if s := p.status(); !s.Applied.Same(before) || s.Lag.Entries == 0 || s.Lag.Bytes == 0 ||
		s.Ahead == nil || !s.Ahead.Known || s.Ahead.Entries != 0 { // a promotion would lose nothing
		p.t.Fatalf("after %v: %+v", before.Position, s)
	}
}

// delayedPair is a pair whose follower is level, and from then on holds back for an hour.
func delayedPair(t *testing.T) (east, west *party, level events.Mark) {
	east, west = newPair(t)
	east.own("")
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: 8 << 20})
	east.write("disk0", bytes.Repeat([]byte{1}, 4096), 0)
	west.follow()
	west.sameAs(east)
	west.configure(time.Hour)
	own := west.follower.followers[west.id].copy()
	sitetest.Eventually(t, "west holds back", func() bool { _, noted := own.replica.NotedDue(); return noted })
	return east, west, own.tail.Marks().Applied
}

// journal 249: delayed replay, its lag, and what a restart and another delay make of it.
func TestDelayedFollower(t *testing.T) {
	t.Parallel()
	started := time.Now()
	east, west, level := delayedPair(t)
	began := time.Now()
	east.write("disk0", bytes.Repeat([]byte{2}, 4096), 4096)
	must[[]api.Snapshot](east, api.SnapCreate, api.SnapRequest{Image: "disk0", Snapshot: "noon"})
	west.holdsBack(east, level)
	if data := west.read("vms/prod/disk0"); data[0] != 1 || data[4096] != 0 {
		t.Errorf("the copy holds %d and %d", data[0], data[4096])
	}
	west.restartFollower()
	west.follow()
	west.replaying()
	west.holdsBack(east, level)
	east.write("disk0", bytes.Repeat([]byte{3}, 4096), 8192)
	west.holdsBack(east, level)
	least := time.Since(began).Seconds() - 1
	if s := west.status(); s.Lag.Seconds < least || s.Lag.Seconds > time.Since(started).Seconds()+1 {
		t.Errorf("%g seconds behind after %s", s.Lag.Seconds, time.Since(began))
	}
	west.configure(0)
	west.sameAs(east)
	east.write("disk0", bytes.Repeat([]byte{4}, 4096), 8192)
	west.sameAs(east)
}

// journal 250: a release is prompt although the rest is due in an hour.
func TestDelayedFollowerIsReleasedAtOnce(t *testing.T) {
	t.Parallel()
	east, west, level := delayedPair(t)
	east.write("disk0", bytes.Repeat([]byte{2}, 4096), 4096)
	west.holdsBack(east, level)
	started := time.Now()
	west.stop()
	sitetest.Prompt(t, "a stop", started, 5*time.Second)
}

// The source is lost with everything on it. What was received is not: the copy that is
// promoted applies all of it first.
func TestDelayedFollowerIsPromotedByForce(t *testing.T) {
	t.Parallel()
	east, west, level := delayedPair(t)
	for i := range 20 {
		east.write("disk0", bytes.Repeat([]byte{byte(2 + i)}, 4096), uint64(i)<<12)
	}
	west.holdsBack(east, level)
	want := east.holding()
	east.stopOwner()
	west.release()
	west.own(events.TagForced)
	if got := west.holding(); got.Contents["vms/prod/disk0"] != want.Contents["vms/prod/disk0"] {
		t.Error("what was held back is not in the promoted copy")
	}
}

// An orderly fail-over to a delayed copy, and back to one that is not.
func TestDelayedFollowerIsPromoted(t *testing.T) {
	t.Parallel()
	east, west, level := delayedPair(t)
	east.write("disk0", bytes.Repeat([]byte{2}, 4096), 4096)
	west.holdsBack(east, level)
	want := east.holding()
	east.release()
	east.follow()
	sitetest.Eventually(t, "the demotion is stored", func() bool {
		return west.status().Position.Position.Tag() > level.Position.Tag()
	})
	west.release()
	west.own(events.TagPromoted)
	if got := west.holding(); got.Contents["vms/prod/disk0"] != want.Contents["vms/prod/disk0"] {
		t.Error("what was held back is not in the promoted copy")
	}
	west.write("disk0", bytes.Repeat([]byte{5}, 4096), 8192)
	east.sameAs(west)
}

// A new copy is complete at once, whatever the delay: only what comes later is held back.
func TestDelayedFirstSync(t *testing.T) {
	t.Parallel()
	east, west := newPair(t)
	west.configure(time.Hour)
	east.own("")
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: 64 << 20})
	stop := meanwhile(t, func(i int) { east.write("disk0", bytes.Repeat([]byte{byte(i + 1)}, 64<<10), uint64(i%1024)<<16) })
	west.follow()
	west.replaying()
	stop()
	sitetest.Eventually(t, "everything is stored", func() bool { return west.status().Position.Same(east.status().Position) })
	if s := west.status(); s.Applied.Same(s.Position) {
		t.Log("all of it was needed to make the copy complete")
	}
	applied := west.status().Applied
	east.write("disk0", []byte("later"), 0)
	west.holdsBack(east, applied)
	verified := make(chan api.Verified, 1)
	go func() { verified <- west.sound(nil) }() // waits until this copy is where the source was
	sitetest.Eventually(t, "the comparison has begun", func() bool { return west.follower.followers[west.id].verifying.Load() })
	select {
	case v := <-verified:
		t.Errorf("compared ahead of time: %+v", v)
	case <-time.After(50 * time.Millisecond):
	}
	west.configure(0)
	if v := <-verified; v.Position < applied.Position {
		t.Errorf("compared at %v", v.Position)
	}
	west.sameAs(east)
}

// What is held back fills this site's journal: then receiving waits, nothing is lost and nothing
// of it is cut, and it goes on when there is room.
func TestDelayedFollowerWithAFullJournal(t *testing.T) {
	t.Parallel()
	east, west := newPair(t)
	west.stop()
	west.follower = New(Deps{Bus: west.at.Bus, Node: west.at.Node, Log: west.at.Log, JournalBytesMax: 64 << 20})
	west.stop = sitetest.Run(t, west.follower.Run)
	<-west.follower.Ready()
	east.own("")
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: 64 << 20})
	west.follow()
	west.sameAs(east)
	west.configure(time.Hour)
	own := west.follower.followers[west.id].copy()
	sitetest.Eventually(t, "west holds back", func() bool { _, noted := own.replica.NotedDue(); return noted })
	before := west.status().Applied
	for i := range uint64(96) {
		east.write("disk0", bytes.Repeat([]byte{byte(i + 1)}, 1<<20), i%64<<20)
	}
	sitetest.Eventually(t, "the journal is full", func() bool { return west.status().Bytes > 60<<20 })
	if s := west.status(); !s.Applied.Same(before) || s.Position.Position >= east.status().Position.Position {
		t.Errorf("after %v: %+v", before.Position, s)
	}
	west.configure(0)
	west.sameAs(east)
}

// A delay is of the site that has it, not of those behind it: what its journal holds they get
// at once, also when they connect while it holds back, and they are never behind for it.
// journal 249.
func TestDelayedSiteInAChain(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	c.west.configure(time.Hour)
	own := c.west.follower.followers[c.west.id].copy()
	sitetest.Eventually(t, "west holds back", func() bool { _, noted := own.replica.NotedDue(); return noted })
	before := own.tail.Marks().Applied
	for round := range 2 {
		c.east.write("disk0", bytes.Repeat([]byte{byte(2 + round)}, 4096), 4096)
		c.west.holdsBack(c.east, before)
		c.north.sameAs(c.east) // the last write too, behind which nothing comes
		if lag := c.north.lag(); lag.Entries != 0 {
			t.Errorf("north is behind: %+v", lag)
		}
		c.north.restartFollower()
		c.north.follow()
		c.north.sameAs(c.east)
	}
	c.west.configure(0)
	c.west.sameAs(c.east)
	c.east.write("disk0", bytes.Repeat([]byte{9}, 4096), 8192)
	c.north.sameAs(c.east)
}
