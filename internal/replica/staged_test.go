package replica

import (
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tidemark/events"
	"tidemark/internal/vfs"
)

// dumbStage is what segments do, byte by byte.
type dumbStage struct {
	position [64]events.Position
	value    [64]byte
	hole     [64]bool
}

func TestSegmentsMatchModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var segs segments
		var dumb dumbStage
		type staged struct {
			from, to uint32
			at       events.Position
		}
		var live []staged
		for at := events.Position(1); at <= 40; at++ {
			if len(live) > 0 && rapid.IntRange(0, 2).Draw(t, "op") == 0 {
				i := rapid.IntRange(0, len(live)-1).Draw(t, "which") // mostly in order, but not always
				g := live[i]
				live = slices.Delete(live, i, i+1)
				segs = segs.remove(g.from, g.to, g.at)
				for b := g.from; b < g.to; b++ {
					if dumb.position[b] == g.at {
						dumb.position[b] = 0
					}
				}
			} else {
				from := rapid.Uint32Range(0, 62).Draw(t, "from")
				g := segment{from: from, to: rapid.Uint32Range(from+1, 64).Draw(t, "to"), position: at}
				if kind := rapid.IntRange(0, 2).Draw(t, "kind"); kind == 0 {
					for i := range g.to - g.from {
						g.data = append(g.data, byte(at)+byte(i))
					}
				} else {
					g.hole = kind == 1
				}
				segs = segs.insert(g)
				live = append(live, staged{g.from, g.to, at})
				for b := g.from; b < g.to; b++ {
					dumb.position[b], dumb.value[b], dumb.hole[b] = at, 0, g.hole
					if g.data != nil {
						dumb.value[b] = g.data[b-g.from]
					}
				}
			}
			checkSegments(t, segs, &dumb)
		}
	})
}

func checkSegments(t *rapid.T, segs segments, dumb *dumbStage) {
	var got dumbStage
	last := uint32(0)
	for _, g := range segs {
		if g.from < last || g.from >= g.to || g.data != nil && len(g.data) != int(g.to-g.from) {
			t.Fatalf("segments are out of order or malformed: %+v", segs)
		}
		last = g.to
		for b := g.from; b < g.to; b++ {
			got.position[b], got.hole[b] = g.position, g.hole
			if g.data != nil {
				got.value[b] = g.data[b-g.from]
			}
		}
	}
	for b := range got.position {
		if got.position[b] != dumb.position[b] {
			t.Fatalf("byte %d is staged by %v, not %v: %+v", b, got.position[b], dumb.position[b], segs)
		}
		if got.position[b] != 0 && (got.value[b] != dumb.value[b] || got.hole[b] != dumb.hole[b]) {
			t.Fatalf("byte %d is %d, not %d", b, got.value[b], dumb.value[b])
		}
	}
}

// TestStagedReads stages ahead of what is applied and compares every read with a model
// that has everything staged.
func TestStagedReads(t *testing.T) {
	root := memDir(t)
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		dir := filepath.Join(root, "r")
		r, err := Create(vfs.OS(), dir, testIdentity())
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if err := Destroy(vfs.OS(), dir); err != nil {
				t.Error(err)
			}
		}()
		j := newJournal(func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "n") })
		j.claim(1)
		j.batch(events.ImageCreated{Image: 1, Name: "a", Size: 50<<10 + 512, ObjectSize: BlockSize << j.intN(4)})
		if err := replay(r, j.messages); err != nil {
			t.Fatal(err)
		}
		img, _ := r.Image(1)
		applied := len(j.messages)
		for range 30 {
			switch {
			case applied < len(j.messages) && j.intN(2) == 0:
				if err := r.Apply(j.messages[applied], 1); err != nil {
					t.Fatal(err)
				}
				applied++
			default:
				r.Stage(j.batch(j.io(), j.io()))
			}
			if err := j.now.images[1].contentDiffers(img); err != nil {
				t.Fatal(err)
			}
			object := uint64(j.intN(int(objectCount(img.Size(), img.ObjectSize()))))
			if got, want := img.ObjectVersion(object), j.states[applied-1].images[1].versions[object]; got != want {
				t.Fatalf("object %d has version %v, not %v", object, got, want)
			}
			c, err := r.CopyObject(img.active.id, object, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := j.states[applied-1].images[1].copyDiffers(object, c); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestStagedAcrossSnapshot stages writes on both sides of a snapshot that is not applied
// yet: the image shows them all, the snapshot only what was applied before it.
func TestStagedAcrossSnapshot(t *testing.T) {
	j := twoImages()
	r := create1(t, vfs.OS(), memDir(t))
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	img, _ := r.Image(1)
	var ms []*events.Batch
	for _, e := range []events.Event{
		events.Written{Image: 1, Offset: 10, Data: []byte("before")},
		events.SnapshotsCreated{Name: "s", First: 1, Images: []events.ImageID{1}},
		events.Written{Image: 1, Offset: 12, Data: []byte("after")},
		events.Discarded{Image: 1, Length: 8 << 10},
	} {
		m := j.batch(e)
		ms = append(ms, m)
		r.Stage(m)
		if err := j.now.images[1].contentDiffers(img); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := img.Snapshot("s"); ok {
		t.Error("a snapshot is there before it was applied")
	}
	for i, m := range ms {
		mustApply(t, r, m)
		if err := j.now.images[1].contentDiffers(img); err != nil {
			t.Fatalf("after message %d: %v", i, err)
		}
		if s, ok := img.Snapshot("s"); ok {
			if err := j.now.images[1].snapshots[0].differs(s); err != nil {
				t.Fatalf("after message %d: %v", i, err)
			}
		}
	}
	j.now.check(t, r)
}
