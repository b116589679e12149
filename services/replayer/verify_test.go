package replayer

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
)

// verify compares a follower's copy with its source; tell may be nil.
func (p *party) verify(repair bool, tell func(api.Progress)) (api.Verified, error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), sitetest.Patience)
	defer cancel()
	if tell == nil {
		return api.CallLong[api.Verified](ctx, p.at.Bus.Conn(), api.HolderSubject(p.id, api.MirrorVerify),
			api.VerifyRequest{Repair: repair}, time.Minute, func(api.Progress) {})
	}
	f := p.follower.followers[p.id]
	return f.verify(ctx, f.copy(), api.VerifyRequest{Repair: repair}, tell)
}

// sound demands that a comparison finds nothing.
func (p *party) sound(tell func(api.Progress)) api.Verified {
	p.t.Helper()
	v, err := p.verify(false, tell)
	if err != nil {
		p.t.Fatal(err)
	}
	if v.MismatchesTotal != 0 || len(v.Mismatches) != 0 || v.Position == 0 {
		p.t.Fatalf("false mismatches: %+v", v)
	}
	return v
}

// meanwhile does something again and again until stop is called, which waits for it.
func meanwhile(t testing.TB, do func(i int)) (stop func()) {
	ended := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-ended:
				return
			default:
				do(i)
			}
		}
	})
	stop = sync.OnceFunc(func() { close(ended); running.Wait() })
	t.Cleanup(stop)
	return stop
}

// replaying waits until a copy is complete and follows.
func (p *party) replaying() {
	p.t.Helper()
	sitetest.Eventually(p.t, p.at.Node.Site.Name+" replays", func() bool {
		f := p.follower.followers[p.id]
		own := f.copy()
		_, err := f.followed()
		return err == nil && own != nil && own.complete()
	})
}

// A copy is compared while everything is done to its source that can be: writes of each kind,
// snapshots, clones, roll-backs, resizes. There is never a mismatch, and it always ends.
//
// rivals 12: verify during writes compares at one sequence and reports zero false mismatches.
func TestVerifyUnderWritesFindsNothing(t *testing.T) {
	t.Parallel()
	east, west := newPair(t)
	east.own("")
	c := newChaos(east, 5)
	c.begin()
	c.run(60)
	west.follow()
	west.replaying()
	stop := meanwhile(t, func(int) { c.run(1) })
	before := events.Position(0)
	for range sitetest.Rounds(25) {
		v := west.sound(nil)
		if v.Position < before {
			t.Errorf("compared at %v after %v", v.Position, before)
		}
		before = v.Position
	}
	stop()
	if v := west.sound(nil); v.Objects == 0 || v.Images == 0 || v.Bytes == 0 {
		t.Errorf("nothing was compared: %+v", v)
	}
	west.sameAs(east)
}

// The same objects are written over and over, so that the copy never has one as the source
// just said.
func TestVerifyOfObjectsThatAlwaysChange(t *testing.T) {
	t.Parallel()
	east, west := newPair(t)
	east.own("")
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: 4 << 20, ObjectSize: 1 << 20})
	west.follow()
	west.replaying()
	stop := meanwhile(t, func(i int) {
		for object := range uint64(4) {
			east.write("disk0", bytes.Repeat([]byte{byte(i + 1)}, 64<<10), object<<20+uint64(i%8)<<16)
		}
	})
	for range sitetest.Rounds(10) {
		if v := west.sound(nil); v.Objects > 4 {
			t.Errorf("%d objects of 4 were compared", v.Objects)
		}
	}
	stop()
	west.sameAs(east)
}

// flip changes a byte in the replica's files: where content is found, which lies in one place.
func (p *party) flip(content []byte) {
	p.t.Helper()
	own := p.follower.followers[p.id].copy()
	if _, err := own.replica.Checkpoint(context.Background()); err != nil {
		p.t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(p.at.Node.ReplicaDir(p.id), "layers", "*.img"))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			p.t.Fatal(err)
		}
		at := bytes.Index(data, content)
		if at < 0 {
			continue
		}
		file, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			p.t.Fatal(err)
		}
		if _, err := file.WriteAt([]byte{content[0] ^ 1}, int64(at)); err != nil {
			p.t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			p.t.Fatal(err)
		}
		return
	}
	p.t.Fatalf("%q lies nowhere", content)
}

// damaged makes a pair whose follower has a snapshot below an image, and a clone of it, and
// waits until both are level.
func damaged(t *testing.T) (east, west *party) {
	t.Helper()
	east, west = newPair(t)
	east.own("")
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: 8 << 20, ObjectSize: 1 << 20})
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "busy", Size: 8 << 20})
	east.write("disk0", []byte("below the snapshot"), 3<<20+5000)
	must[[]api.Snapshot](east, api.SnapCreate, api.SnapRequest{Image: "disk0", Snapshot: "noon"})
	must[api.Snapshot](east, api.SnapProtect, api.SnapRequest{Image: "disk0", Snapshot: "noon"})
	must[api.Image](east, api.ImageClone, api.ImageCloneRequest{Image: "disk0", Snapshot: "noon", NewName: "copy"})
	east.write("disk0", []byte("in the active layer"), 3<<20+9000)
	east.write("copy", []byte("in the clone"), 6<<20)
	west.follow()
	west.sameAs(east)
	return east, west
}

func TestVerifyFindsAndRepairs(t *testing.T) {
	t.Parallel()
	east, west := damaged(t)
	stop := meanwhile(t, func(i int) { east.write("busy", bytes.Repeat([]byte{byte(i)}, 4096), uint64(i%2048)<<12) })
	cases := []struct {
		content string
		where   []string // IMAGE or IMAGE@SNAPSHOT, in the order in which they are compared
		offset  uint64
	}{
		{"in the active layer", []string{"disk0"}, 3<<20 + 8192},
		{"in the clone", []string{"copy"}, 6 << 20},
		{"below the snapshot", []string{"disk0@noon"}, 3<<20 + 4096}, // the image and the clone read it there too
	}
	for _, c := range cases {
		west.flip([]byte(c.content))
		found, err := west.verify(false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(found.Mismatches) == 0 || found.Repaired != 0 {
			t.Fatalf("%s: %+v", c.content, found)
		}
		m := found.Mismatches[0]
		if name := (events.ImageName{Image: m.Image, Snapshot: m.Snapshot}); fullName(name) != c.where[0] ||
			m.Offset != c.offset || m.Length != 4096 || m.Blocks != 1 || m.Object != c.offset>>20 {
			t.Errorf("%s: %+v", c.content, m)
		}
		if again, err := west.verify(false, nil); err != nil || again.MismatchesTotal != found.MismatchesTotal {
			t.Errorf("%s: it was changed by looking: %+v, %v", c.content, again, err)
		}
		mended, err := west.verify(true, nil)
		if err != nil || mended.Repaired != uint64(len(c.where)) || mended.MismatchesTotal != mended.Repaired {
			t.Fatalf("%s: repaired: %+v, %v", c.content, mended, err)
		}
		west.sound(nil)
	}
	stop()
	west.sameAs(east)
	west.restartFollower()
	west.follow()
	west.sameAs(east)
	west.sound(nil)
}

// Blocks that a disk cannot read, or a file that was cut, are mismatches like any other. What the
// source cannot read ends the comparison with its error.
func TestVerifyOfWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	east, west := newPair(t)
	east.own("")
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: 4 << 20, ObjectSize: 1 << 20})
	east.write("disk0", bytes.Repeat([]byte{7}, 64<<10), 0)
	west.follow()
	west.sameAs(east)
	west.cut(40 << 10)
	v, err := west.verify(false, nil)
	if err != nil || len(v.Mismatches) != 1 || v.Mismatches[0].Offset != 40<<10 || v.Mismatches[0].Blocks != 6 || v.Mismatches[0].Detail == "" {
		t.Fatalf("%+v, %v", v, err)
	}
	if v, err = west.verify(true, nil); err != nil || v.Repaired != 1 {
		t.Fatalf("%+v, %v", v, err)
	}
	west.sameAs(east)
	west.sound(nil)
	east.cut(40 << 10)
	if v, err := west.verify(true, nil); fault.CodeOf(err) != fault.Internal {
		t.Errorf("of a source that cannot be read: %+v, %v", v, err)
	}
}

// cut shortens the only layer's file.
func (p *party) cut(size int64) {
	p.t.Helper()
	names, err := filepath.Glob(filepath.Join(p.at.Node.ReplicaDir(p.id), "layers", "*.img"))
	if err != nil || len(names) != 1 {
		p.t.Fatal(names, err)
	}
	if err := os.Truncate(names[0], size); err != nil {
		p.t.Fatal(err)
	}
}

// A copy is compared with the one that it follows, whoever that is.
func TestVerifyAlongAChain(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	stop := meanwhile(t, func(i int) { c.east.write("disk0", bytes.Repeat([]byte{byte(i + 1)}, 4096), uint64(i%1024)<<12) })
	c.west.sound(nil)
	c.north.sound(nil)
	stop()
	c.north.sameAs(c.east)
	c.north.flip([]byte("before"))
	if v, err := c.north.verify(true, nil); err != nil || v.Repaired != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	c.north.sameAs(c.east)
}

func fullName(n events.ImageName) string {
	if n.Snapshot == "" {
		return n.Image
	}
	return n.Image + "@" + n.Snapshot
}

// What is damaged is repaired while it is written all the time.
func TestRepairOfAnObjectThatAlwaysChanges(t *testing.T) {
	t.Parallel()
	east, west := newPair(t)
	east.own("")
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: 1 << 20, ObjectSize: 1 << 20})
	east.write("disk0", []byte("what is damaged"), 8192)
	west.follow()
	west.sameAs(east)
	stop := meanwhile(t, func(i int) { east.write("disk0", bytes.Repeat([]byte{byte(i + 1)}, 4096), 512<<10) })
	for range 3 {
		west.flip([]byte("what is damaged"))
		v, err := west.verify(true, nil)
		if err != nil || v.Repaired != 1 || v.MismatchesTotal != 1 {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	stop()
	west.sameAs(east)
}

// once calls f at the first progress of a comparison.
func once(f func()) func(api.Progress) {
	var first sync.Once
	return func(api.Progress) { first.Do(f) }
}

func TestVerifyAcrossInterruptions(t *testing.T) {
	east, west := damaged(t)
	stop := meanwhile(t, func(i int) {
		if east.owns.Load() && i%8 == 0 {
			_, _ = ask[api.Nothing](east, api.MetadataSet, api.MetadataRequest{Image: "busy", Key: "k", Value: fmt.Sprint(i)})
		}
	})
	t.Run("the connection to the source breaks", func(*testing.T) {
		west.sound(once(func() {
			if src, err := west.follower.followers[west.id].followed(); err == nil {
				src.bulk.Close()
			}
		}))
	})
	stop()
	t.Run("the source is started again", func(*testing.T) {
		west.sound(once(func() {
			east.restartOwner()
			east.own("")
		}))
	})
	t.Run("a snapshot comes, another goes", func(*testing.T) {
		must[[]api.Snapshot](east, api.SnapCreate, api.SnapRequest{Image: "busy", Snapshot: "gone"})
		west.sameAs(east)
		west.sound(once(func() {
			must[[]api.Snapshot](east, api.SnapCreate, api.SnapRequest{Image: "busy", Snapshot: "new"})
			must[api.Nothing](east, api.SnapRemove, api.SnapRequest{Image: "busy", Snapshot: "gone"})
		}))
	})
	t.Run("the image goes", func(*testing.T) {
		must[api.Nothing](east, api.SnapRemove, api.SnapRequest{Image: "busy", Snapshot: "new"})
		west.sameAs(east)
		west.sound(once(func() { must[api.Nothing](east, api.ImageRemove, api.ImageRequest{Image: "busy"}) }))
	})
	t.Run("the follower is let go", func(t *testing.T) {
		_, err := west.verify(false, once(func() { west.release() }))
		if err == nil {
			t.Error("a comparison that was cut off succeeded")
		}
	})
}

func TestVerifyRefused(t *testing.T) {
	t.Parallel()
	east, west := newPair(t)
	east.own("")
	if _, err := east.verify(false, nil); fault.CodeOf(err) != fault.Busy {
		t.Errorf("at a primary: %v", err)
	}
	west.follow()
	west.replaying()
	f := west.follower.followers[west.id]
	f.copy().replayed.Store(false) // as while a crash is made good, and a first sync copies
	if _, err := west.verify(false, nil); fault.CodeOf(err) != fault.NotReady {
		t.Errorf("of a copy that is not complete: %v", err)
	}
	f.copy().replayed.Store(true)
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: 1 << 20})
	east.write("disk0", []byte("x"), 0)
	west.sameAs(east)
	west.sound(once(func() {
		if _, err := west.verify(false, nil); fault.CodeOf(err) != fault.Busy {
			t.Errorf("a second one at a time: %v", err)
		}
	}))
	f.enter(Resyncing, nil)
	if _, err := west.verify(false, nil); fault.CodeOf(err) != fault.NotReady {
		t.Errorf("in a resync: %v", err)
	}
	f.enter(SplitBrain, fault.New(fault.SplitBrain, "the histories have parted"))
	if _, err := west.verify(false, nil); fault.CodeOf(err) != fault.SplitBrain {
		t.Errorf("in a split brain: %v", err)
	}
}

// The link to the source fails in the middle of it, and comes back.
func TestVerifyOverALinkThatFails(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*sitetest.Link){"cut": (*sitetest.Link).Cut, "black hole": (*sitetest.Link).BlackHole} {
		t.Run(name, func(t *testing.T) {
			l := newLinked(t)
			l.west.follow()
			l.west.replaying()
			l.keepWriting(t)
			l.west.sound(once(func() {
				fail(l.link)
				time.AfterFunc(300*time.Millisecond, l.link.Heal)
			}))
			l.stop()
			l.west.sameAs(l.east)
		})
	}
}

// A source that describes more blocks than an object has is no reason to repair anything, nor
// to fail altogether.
func TestRepairOfBlocksThatAreNone(t *testing.T) {
	m := meeting{met: true, mine: replica.ObjectDigest{Blocks: make([]replica.Digest, 1)}}
	m.theirs.Blocks = make([]replica.Digest, 200)
	if err := (&comparison{}).overwrite(t.Context(), 0, m); fault.CodeOf(err) != fault.Corrupt {
		t.Errorf("repaired by a source that cannot be: %v", err)
	}
}
