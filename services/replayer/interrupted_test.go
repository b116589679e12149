package replayer

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/sitetest"
)

// large is an origin with an image of 32 MiB whose content lies in two layers, half in each.
func large(t *testing.T) *origin {
	t.Helper()
	o := newOrigin(t)
	o.create("disk0", 32<<20)
	write := func(from, to int) {
		for off := from; off < to; off += events.PayloadMax {
			data := bytes.Repeat([]byte{byte(off>>18 + 1)}, events.PayloadMax)
			o.entry(o.images[0], events.Written{Image: 1, Offset: uint64(off), Data: data}, uint64(off), data)
		}
		o.publish()
		o.settle()
	}
	write(0, 16<<20)
	if !o.fact(events.SnapshotsCreated{Name: "noon", First: 1, Images: []events.ImageID{1}}) {
		t.Fatal("no snapshot")
	}
	write(16<<20, 32<<20)
	return o
}

// interrupt begins a first sync and stops it when it has copied something, and not all: at
// this rate that takes eight seconds, and one object is copied at a time.
func interrupt(t *testing.T, o *origin) *sitetest.Site {
	t.Helper()
	at := sitetest.Start(t, "west")
	addPeer(t, at, o.site.Node.Site, o.site.Server.URL())
	rate := func(perSecond uint64) {
		t.Helper()
		fact := &events.DirectoryConfigured{Directory: westID, Pool: "vms", SyncRate: perSecond}
		if _, err := at.Bus.Publish(t.Context(), events.StreamDirectories, fact); err != nil {
			t.Fatal(err)
		}
	}
	rate(slowRate / 2)
	s, stop := follow(t, at)
	f := s.followers[westID]
	sitetest.Eventually(t, "some objects are copied", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.progress != nil && f.progress.progress(time.Now()).Objects >= 2
	})
	stop()
	rate(0)
	return at
}

// letGo ends what holds the origin's layers together.
func (o *origin) letGo() {
	o.t.Helper()
	ctx, cancel := context.WithCancel(o.t.Context())
	cancel()
	if err := o.compaction.Run(ctx); err != nil {
		o.t.Fatal(err)
	}
}

// synced reads how often a first sync was begun at a site, and what the last one copied.
func synced(t *testing.T, at *sitetest.Site) (begun int, bytes uint64) {
	t.Helper()
	state, err := at.Bus.State(t.Context(), events.StreamLifecycle)
	if err != nil {
		t.Fatal(err)
	}
	err = at.Bus.ReadTo(t.Context(), events.StreamLifecycle, state.First, state.Last, func(m bus.Message) error {
		fact, err := events.Unmarshal(m.Data)
		if note, ok := fact.(*events.LifecycleNoted); ok && note.What == events.SyncStarted {
			begun++
		} else if ok && note.What == events.SyncEnded {
			_, err = fmt.Sscanf(note.Detail, "%d objects, %d bytes", new(uint64), &bytes)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return begun, bytes
}

// journal 265: a first sync that was interrupted goes on where it was.
func TestInterruptedFirstSyncGoesOn(t *testing.T) {
	t.Parallel()
	o := large(t)
	at := interrupt(t, o)
	o.letGo()
	o.random(20)
	o.settle()
	s, _ := follow(t, at)
	sitetest.Eventually(t, "west is level", s.level(o.mark()))
	sitetest.Eventually(t, "the end is noted", func() bool { _, bytes := synced(t, at); return bytes > 0 })
	same(t, o.replica, s.followers[westID].copy().replica)
	if begun, bytes := synced(t, at); begun != 2 || bytes >= 32<<20 {
		t.Errorf("begun %d times, the last one copied %d bytes", begun, bytes)
	}
}

// journal 244, journal 265: a resync that is asked for during a first sync is none: what is there
// is gone on with. Only if the source waits for it no more, so that it cannot be, it starts over.
func TestResyncDuringFirstSync(t *testing.T) {
	t.Parallel()
	for _, disconnected := range []bool{false, true} {
		o := large(t)
		at := interrupt(t, o)
		o.disconnected.Store(disconnected)
		o.random(20)
		o.settle()
		s, _ := followAsked(t, at, 1)
		sitetest.Eventually(t, "west is level", s.level(o.mark()))
		sitetest.Eventually(t, "the end is noted", func() bool { _, bytes := synced(t, at); return bytes > 0 })
		west := s.followers[westID].copy().replica
		same(t, o.replica, west)
		if begun, bytes := synced(t, at); begun != 2 || (bytes >= 32<<20) != disconnected {
			t.Errorf("disconnected %v: begun %d times, the last one copied %d bytes", disconnected, begun, bytes)
		}
		if number := west.Resynced(); number != 1 {
			t.Errorf("disconnected %v: the request counts as %d", disconnected, number)
		}
	}
}

// One whose source has merged a layer meanwhile starts over: nobody could tell it into what.
func TestInterruptedFirstSyncStartsOverWhenALayerIsGone(t *testing.T) {
	t.Parallel()
	o := large(t)
	at := interrupt(t, o)
	o.letGo()
	if !o.fact(events.SnapshotsCreated{Name: "one", First: 2, Images: []events.ImageID{1}}) ||
		!o.fact(events.SnapshotRemoved{Image: 1, Snapshot: 2}) {
		t.Fatal("no snapshot, or it stays")
	}
	o.settle()
	layers := len(o.replica.Layers())
	for more := true; more; {
		var err error
		if more, err = o.replica.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(o.replica.Layers()); n != layers-1 {
		t.Fatalf("%d layers, %d before the compaction", n, layers)
	}
	o.random(20)
	o.settle()
	s, _ := follow(t, at)
	sitetest.Eventually(t, "west is level", s.level(o.mark()))
	sitetest.Eventually(t, "the end is noted", func() bool { _, bytes := synced(t, at); return bytes > 0 })
	same(t, o.replica, s.followers[westID].copy().replica)
	if begun, bytes := synced(t, at); begun != 2 || bytes < 32<<20 {
		t.Errorf("begun %d times, the last one copied %d bytes", begun, bytes)
	}
}
