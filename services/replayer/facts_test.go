package replayer

import (
	"bytes"
	"fmt"
	"testing"

	"tidemark/events"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
)

// fact publishes an operation's fact as the origin's replica allows it, and applies it.
func (s *script) fact(e events.Event) bool {
	s.t.Helper()
	before, err := s.replica.Check(e)
	if err != nil {
		return false
	}
	s.add(events.Entry{Before: before, Event: e})
	s.publish()
	s.apply()
	return true
}

// fill writes random data to an image of the origin's replica, and applies it.
func (s *script) fill(id events.ImageID) {
	s.t.Helper()
	image, ok := s.replica.Image(id)
	if !ok {
		return
	}
	length := min(1+s.rand.Uint64N(events.PayloadMax/4), image.Size())
	offset := s.rand.Uint64N(image.Size() - length + 1)
	var e events.Event = events.Discarded{Image: id, Offset: offset, Length: length}
	switch s.rand.IntN(4) {
	case 0:
	case 1:
		e = events.Zeroed{Image: id, Offset: offset, Length: length}
	default:
		data := make([]byte, length)
		for i := 0; i < len(data); i += 1 + s.rand.IntN(900) {
			data[i] = byte(s.rand.Uint32())
		}
		e = events.Written{Image: id, Offset: offset, Data: data}
	}
	var before []events.Position
	first, count := replica.Objects(offset, length, image.Info().ObjectSize)
	for index := first; index < first+count; index++ {
		before = append(before, image.ObjectVersion(index))
	}
	s.add(events.Entry{Before: before, Event: e})
	s.publish()
	s.apply()
}

// turn does something random; what the replica does not allow is left out.
func (s *script) turn(done map[string]int) {
	s.t.Helper()
	next := s.replica.NextImageID()
	image, parent, snapshot := events.ImageID(1), events.ImageID(1), events.SnapshotID(1)
	images, snapshots := 0, 0
	for _, info := range s.replica.Images() { // one of each, at random
		if images++; s.rand.IntN(images) == 0 {
			image = info.ID
		}
		img, _ := s.replica.Image(info.ID)
		for _, have := range img.Snapshots() {
			if snapshots++; s.rand.IntN(snapshots) == 0 {
				parent, snapshot = info.ID, have.ID
			}
		}
	}
	size := uint64(4+s.rand.IntN(12)) * 64 << 10
	name := fmt.Sprint("name", s.rand.IntN(40))
	facts := []events.Event{
		events.ImageCreated{Image: next, Name: name, Size: size, ObjectSize: 256 << 10},
		events.ImageResized{Image: image, Size: size},
		events.ImageRemoved{Image: image},
		events.ImageCloned{Image: next, Name: name, Parent: parent, Snapshot: snapshot},
		events.ImageCloned{Image: next, Name: name, Parent: parent, Snapshot: snapshot},
		events.ImageLinked{Image: image, Name: name},
		events.ImageFlattened{Image: next - 1},
		events.ImageFlattened{Image: image},
		events.MetadataSet{Image: image, Key: name, Value: name},
		events.SnapshotsCreated{Name: name, First: s.replica.NextSnapshotID(), Images: []events.ImageID{image}},
		events.SnapshotsCreated{Name: name, First: s.replica.NextSnapshotID(), Images: []events.ImageID{image}},
		events.SnapshotRemoved{Image: parent, Snapshot: snapshot},
		events.SnapshotRemoved{Image: parent, Snapshot: snapshot},
		events.SnapshotProtected{Image: parent, Snapshot: snapshot},
		events.SnapshotProtected{Image: parent, Snapshot: snapshot},
		events.SnapshotUnprotected{Image: parent, Snapshot: snapshot},
		events.SnapshotRolledBack{Image: parent, Snapshot: snapshot},
	}
	if e := facts[s.rand.IntN(len(facts))]; s.fact(e) {
		done[fmt.Sprintf("%T", e)]++
	}
	for range 3 {
		s.fill(image)
		s.fill(next)
		s.fill(events.ImageID(1 + s.rand.IntN(int(next))))
	}
}

// same compares all that two replicas hold.
func same(t *testing.T, want, got *replica.Replica) {
	t.Helper()
	infos := want.Images()
	if n := len(got.Images()); n != len(infos) {
		t.Fatalf("%d images, want %d", n, len(infos))
	}
	for _, info := range infos {
		a, _ := want.Image(info.ID)
		b, ok := got.Image(info.ID)
		if !ok || a.Size() != b.Size() || fmt.Sprint(a.Names(), a.Metadata(), a.Version()) != fmt.Sprint(b.Names(), b.Metadata(), b.Version()) {
			t.Fatalf("image %d differs: %+v, want %+v", info.ID, b.Info(), info)
		}
		compare(t, fmt.Sprintf("image %d", info.ID), a.Size(), a.ReadAt, b.ReadAt)
		for index := range a.Size() / info.ObjectSize {
			if av, bv := a.ObjectVersion(index), b.ObjectVersion(index); av != bv {
				t.Fatalf("object %d of image %d has version %v, want %v", index, info.ID, bv, av)
			}
		}
		for _, snapshot := range a.Snapshots() {
			sa, _ := a.Snapshot(snapshot.Name)
			sb, ok := b.Snapshot(snapshot.Name)
			if !ok || sa.ID() != sb.ID() || sa.Size() != sb.Size() {
				t.Fatalf("snapshot %d of image %d differs", snapshot.ID, info.ID)
			}
			compare(t, fmt.Sprintf("snapshot %d of image %d", snapshot.ID, info.ID), sa.Size(), sa.ReadAt, sb.ReadAt)
		}
	}
}

func compare(t *testing.T, what string, size uint64, want, got func([]byte, int64) (int, error)) {
	t.Helper()
	a, b := make([]byte, size), make([]byte, size)
	if _, err := want(a, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := got(b, 0); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if !bytes.Equal(a, b) {
		t.Fatalf("%s differs", what)
	}
}

// A first sync copies layers while the origin goes on with operations, and gives space back:
// what comes of it holds what the origin holds, of every image and every snapshot. So does
// one that is interrupted, and the copy that follows.
//
// journal 263: images and snapshots after random writes, resizes and discards, and 20 and
// more snapshots.
func TestFirstSyncCopiesLayers(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			o := newOrigin(t)
			o.rand = seededWith(seed)
			sitetest.Run(t, o.compaction.Run)
			done := map[string]int{}
			turns := func(n int) {
				for range n {
					o.turn(done)
				}
				o.settle()
			}
			turns(150)
			_, at, stop := west(t, t.TempDir(), o)
			turns(20)
			stop()
			turns(20)
			s, _ := follow(t, at)
			turns(40)
			for kind, n := range done {
				t.Logf("%s: %d", kind, n)
			}
			sitetest.Eventually(t, "west is level", s.level(o.mark()))
			same(t, o.replica, s.followers[westID].copy().replica)
		})
	}
}

// What a layer hides of the one below stays hidden in a copy.
func TestFirstSyncCopiesWhatALayerHides(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.create("disk0", 4<<20)
	o.entry(o.images[0], events.Written{Image: 1, Data: bytes.Repeat([]byte{1}, 64<<10)}, 0, bytes.Repeat([]byte{1}, 64<<10))
	o.publish()
	o.settle()
	if !o.fact(events.SnapshotsCreated{Name: "noon", First: 1, Images: []events.ImageID{1}}) {
		t.Fatal("no snapshot")
	}
	o.entry(o.images[0], events.Discarded{Image: 1, Offset: 8192, Length: 32768}, 8192, make([]byte, 32768))
	o.publish()
	o.settle()
	s, _, _ := west(t, t.TempDir(), o)
	sitetest.Eventually(t, "west is level", s.level(o.mark()))
	if !bytes.Equal(content(t, s, "disk0", 4<<20), o.want("disk0")) {
		t.Error("the image differs")
	}
	same(t, o.replica, s.followers[westID].copy().replica)
}
