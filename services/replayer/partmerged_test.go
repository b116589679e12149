package replayer

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"tidemark/events"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// overlaid is an origin with an image of 32 MiB in two layers that are to become one: of
// every object the lower one has all, and the upper one three quarters.
func overlaid(t *testing.T) *origin {
	t.Helper()
	o := newOrigin(t)
	o.create("disk0", 32<<20)
	write := func(fill byte, from, to int) {
		for off := from; off < to; off += events.PayloadMax {
			data := bytes.Repeat([]byte{fill + byte(off>>18)}, events.PayloadMax)
			o.entry(o.images[0], events.Written{Image: 1, Offset: uint64(off), Data: data}, uint64(off), data)
		}
		o.publish()
		o.settle()
	}
	write(1, 0, 32<<20)
	if !o.fact(events.SnapshotsCreated{Name: "noon", First: 1, Images: []events.ImageID{1}}) {
		t.Fatal("no snapshot")
	}
	for off := 0; off < 32<<20; off += 4 << 20 {
		write(100, off, off+3<<20)
	}
	if !o.fact(events.SnapshotRemoved{Image: 1, Snapshot: 1}) {
		t.Fatal("the snapshot stays")
	}
	o.settle()
	return o
}

// begun makes a site's copy one whose first sync was interrupted when it had the objects of
// some layers.
func begun(t *testing.T, o *origin, at *sitetest.Site, layers ...replica.LayerID) {
	t.Helper()
	start, err := o.replica.SyncStart()
	if err != nil {
		t.Fatal(err)
	}
	begunFrom(t, o, at, start, layers...)
}

func begunFrom(t *testing.T, o *origin, at *sitetest.Site, start replica.SyncStart, layers ...replica.LayerID) {
	t.Helper()
	dir := at.Node.ReplicaDir(westID)
	r, err := replica.Create(vfs.OS(), dir, replica.Identity{
		Directory: westID, Name: events.DirectoryName{Pool: "vms", Path: "/prod"},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = r.BeginSync(start)
	for _, layer := range layers {
		indices, listed := o.replica.LayerObjects(layer)
		if err = errors.Join(err, listed); err != nil {
			break
		}
		for index := range indices {
			object, copied := o.replica.CopyObject(layer, index, nil)
			err = errors.Join(err, copied, r.InstallObject(layer, index, object))
		}
	}
	if err == nil {
		_, err = r.Checkpoint(t.Context())
	}
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
}

// goesOn lets a site go on with a first sync and compares the copies.
func goesOn(t *testing.T, o *origin, at *sitetest.Site) {
	t.Helper()
	addPeer(t, at, o.site.Node.Site, o.site.Server.URL())
	s, _ := follow(t, at)
	sitetest.Eventually(t, "west is level", s.level(o.mark()))
	same(t, o.replica, s.followers[westID].copy().replica)
}

// A first sync whose source has merged a part of two layers meanwhile cannot tell what of
// them it lacks, whichever of them it has: it starts over.
func TestInterruptedFirstSyncWhileLayersAreMerged(t *testing.T) {
	t.Parallel()
	for _, have := range []replica.LayerID{1, 2} {
		t.Run(fmt.Sprintf("has layer %d", have), func(t *testing.T) {
			o := overlaid(t)
			at := sitetest.Start(t, "west")
			begun(t, o, at, have)
			if more, err := o.replica.Compact(t.Context()); err != nil || !more || len(o.replica.Layers()) != 2 {
				t.Fatalf("%d layers, more: %v, %v", len(o.replica.Layers()), more, err)
			}
			goesOn(t, o, at)
		})
	}
}

// A source that was killed may have forgotten a merge that it had told a follower of: then
// it has a layer that the follower does not wait for.
func TestInterruptedFirstSyncWhenItsSourceHasForgottenAMerge(t *testing.T) {
	t.Parallel()
	o := overlaid(t)
	at := sitetest.Start(t, "west")
	start, err := o.replica.SyncStart()
	if err != nil {
		t.Fatal(err)
	}
	lower, upper := &start.Layers[0], &start.Layers[1]
	if lower.ID != 1 || upper.Parent != 1 {
		t.Fatalf("%+v", start.Layers)
	}
	upper.Parent, upper.Overlap, start.Layers = 0, 0, start.Layers[1:]
	begunFrom(t, o, at, start)
	goesOn(t, o, at)
}
