package replayer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// limit bounds what a site fetches, in bytes per second.
func (p *party) limit(rate uint64) {
	p.t.Helper()
	_, err := p.at.Bus.Publish(p.t.Context(), events.StreamDirectories, &events.DirectoryConfigured{Directory: p.id, Pool: "vms", SyncRate: rate})
	if err != nil {
		p.t.Fatal(err)
	}
}

// copying waits until a resync has fetched something and is not done.
func (p *party) copying() {
	p.t.Helper()
	sitetest.Eventually(p.t, "a resync copies", func() bool {
		status, err := ask[api.Status](p, api.DirectoryStatus, api.Nothing{})
		return err == nil && status.State == string(Resyncing) && status.Progress != nil && status.Progress.Objects > 0
	})
}

func (p *party) beside() bool {
	p.t.Helper()
	there, err := vfs.OS().Exists(replica.Beside(p.at.Node.ReplicaDir(p.id)))
	if err != nil {
		p.t.Fatal(err)
	}
	return there
}

// journal 227: a resync that nobody can be asked for waits, visibly, and the copy stays as it
// is; it goes on by itself. journal 244, journal 298: also if it was asked for while the
// replayer was away.
func TestResyncWaitsForAPrimary(t *testing.T) {
	t.Parallel()
	east, west, _ := splitBrain(t, 1, 1<<20)
	east.write("disk0", []byte("east"), 0)
	west.write("disk0", []byte("west"), 0)
	kept := west.read("vms/prod/disk0")
	west.release()
	east.release()
	east.follow()
	west.acquire(1, false)
	sitetest.Eventually(t, "west says what it waits for", west.shows(Resyncing, "waits for a primary"))
	if !bytes.Equal(west.read("vms/prod/disk0"), kept) {
		t.Error("the old copy changed")
	}
	west.letGo()
	west.restartFollower() // nobody is there to be asked
	east.release()
	west.acquire(1, false)
	sitetest.Eventually(t, "west waits", west.shows(Resyncing, "waits for a primary"))
	if !bytes.Equal(west.read("vms/prod/disk0"), kept) {
		t.Error("the old copy changed")
	}
	east.own(events.TagForced)
	west.sameAs(east)
	if west.beside() {
		t.Error("something is left beside")
	}
}

// journal 244: a resync that was asked for before there was a copy is none: the first sync
// makes what it would. So does one that is asked for while the first sync runs.
func TestResyncOfNothing(t *testing.T) {
	t.Parallel()
	east, west := newPair(t)
	east.own("")
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: 8 << 20})
	east.write("disk0", bytes.Repeat([]byte{7}, 8<<20), 0)
	west.limit(1 << 20)
	west.acquire(1, false)
	sitetest.Eventually(t, "west is being synced", west.shows(Syncing, ""))
	west.resync(2, false)
	west.limit(0)
	west.sameAs(east)
	if n := len(west.notes(events.ResyncStarted)); n != 0 {
		t.Errorf("%d resyncs", n)
	}
}

// rivals 4: a resync that runs while writes go on ends at the live head.
func TestResyncWhileWritesGoOn(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	east, west, rng := splitBrain(t, 2, size)
	west.scribble(rng, "disk0", size, 50)
	west.release()
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		rng := rand.New(rand.NewPCG(9, 9))
		for i := 0; ctx.Err() == nil; i++ {
			east.scribble(rng, "disk0", size, 20)
			if i%10 == 5 {
				name := fmt.Sprint("at", i)
				must[[]api.Snapshot](east, api.SnapCreate, api.SnapRequest{Image: "disk1", Snapshot: name})
			}
		}
	})
	west.limit(4 << 20)
	west.acquire(1, false)
	west.copying()
	west.limit(0)
	sitetest.Eventually(t, "west follows", func() bool {
		return west.shows(Replaying, "")() && len(west.notes(events.ResyncEnded)) == 1
	})
	at := east.status().Position
	sitetest.Eventually(t, "west has what was written meanwhile", func() bool { return west.status().Applied.Position >= at.Position })
	stop()
	writing.Wait()
	west.sameAs(east)
}

// What both sides did to images since they parted: the side that gives up shows what the
// other one has, and nothing else. Numbers and names mean other things there.
func TestResyncAfterBothSidesChangedEverything(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	east, west, rng := splitBrain(t, 5, size)
	for i, p := range []*party{east, west} {
		p.scribble(rng, "disk0", size, 30)
		must[[]api.Snapshot](p, api.SnapCreate, api.SnapRequest{Image: "disk0", Snapshot: "noon"})
		p.scribble(rng, "disk0", size, 30)
		must[[]api.Snapshot](p, api.SnapCreate, api.SnapRequest{Image: "disk1", Snapshot: fmt.Sprint("own", i)})
		must[api.Image](p, api.ImageCreate, api.ImageCreateRequest{Image: "new", Size: uint64(2+i) << 20, ObjectSize: 1 << 20 << i})
		p.scribble(rng, "new", 2<<20, 40)
		must[api.Image](p, api.ImageCreate, api.ImageCreateRequest{Image: fmt.Sprint("another", i), Size: 4 << 20})
		p.scribble(rng, fmt.Sprint("another", i), 4<<20, 10)
		must[api.Image](p, api.ImageResize, api.ImageResizeRequest{Image: "disk2", Size: uint64(3+2*i) << 20, AllowShrink: true})
		must[api.Image](p, api.ImageResize, api.ImageResizeRequest{Image: "disk2", Size: 9 << 20})
		p.scribble(rng, "disk2", 9<<20, 20)
		must[api.Nothing](p, api.ImageRemove, api.ImageRequest{Image: fmt.Sprint("disk", 3+i)})
	}
	must[api.Snapshot](east, api.SnapProtect, api.SnapRequest{Image: "disk0", Snapshot: "noon"})
	must[api.Image](east, api.ImageClone, api.ImageCloneRequest{Image: "disk0", Snapshot: "noon", NewName: "clone"})
	east.scribble(rng, "clone", size, 10)
	must[api.Nothing](west, api.SnapRollback, api.SnapRequest{Image: "disk0", Snapshot: "noon"})
	must[api.Nothing](west, api.SnapRemove, api.SnapRequest{Image: "disk0", Snapshot: "noon"})
	west.release()
	west.acquire(1, false)
	west.sameAs(east)
	if got := west.travelled(); got > 5*size/4 {
		t.Errorf("%d bytes travelled for images of %d", got, 5*size)
	}
	east.scribble(rng, "clone", size, 10)
	must[[]api.Snapshot](east, api.SnapCreate, api.SnapRequest{Image: "clone", Snapshot: "later"})
	west.sameAs(east)
}

// The copy that is to be given up can be promoted by force as long as it is there; what was
// prepared is void then.
func TestOldCopyIsPromotedWhileAResyncRuns(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	east, west, rng := splitBrain(t, 1, size)
	east.scribble(rng, "disk0", size, 400)
	west.scribble(rng, "disk0", size, 400)
	want := west.read("vms/prod/disk0")
	west.release()
	west.limit(256 << 10)
	west.acquire(1, false)
	west.copying()
	if !west.beside() {
		t.Fatal("nothing is prepared")
	}
	if !bytes.Equal(west.read("vms/prod/disk0"), want) {
		t.Error("the old copy is not what it was")
	}
	west.release()
	west.own(events.TagForced)
	if !bytes.Equal(west.read("vms/prod/disk0"), want) {
		t.Error("what was promoted is not the old copy")
	}
	if west.beside() {
		t.Error("what was prepared is still there")
	}
	west.scribble(rng, "disk0", size, 10)
	west.release()
	west.limit(0)
	west.acquire(2, false)
	west.sameAs(east)
}

// A second request while the first is carried out is carried out with it; a removal ends
// both and leaves nothing.
func TestSecondResyncAndRemovalWhileAResyncRuns(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	east, west, rng := splitBrain(t, 1, size)
	east.scribble(rng, "disk0", size, 400)
	west.release()
	west.limit(256 << 10)
	west.acquire(1, false)
	west.copying()
	west.resync(2, false)
	west.limit(0)
	west.sameAs(east)
	if got := west.follower.followers[westID].copy().replica.Resynced(); got != 2 {
		t.Errorf("carried out up to %d", got)
	}
	west.limit(256 << 10)
	east.scribble(rng, "disk0", size, 400)
	west.letGo()
	west.acquire(3, false)
	west.copying()
	west.follower.release(t, true)
	dir := west.at.Node.ReplicaDir(westID)
	for _, folder := range []string{dir, replica.Beside(dir)} {
		if there, err := vfs.OS().Exists(folder); there || err != nil {
			t.Errorf("%s is still there: %v", folder, err)
		}
	}
}

// rivals 6, journal 226: a resync that is killed goes on: the disk takes nothing any more at some
// operation, and the next process finds what was durable.
func TestResyncIsKilledAnywhere(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	east, west, rng := splitBrain(t, 2, size)
	east.scribble(rng, "disk0", size, 100)
	west.scribble(rng, "disk0", size, 100)
	west.scribble(rng, "disk1", size, 1)
	west.release()
	killed := errors.New("the process is dead")
	stride := uint64(3)
	if sitetest.RaceDetector {
		stride = 20
	}
	for request := uint64(1); ; request++ {
		after := int(stride*(request-1) + 1)
		west.stop()
		var mu sync.Mutex
		n, dead := 0, make(chan struct{})
		fsys := vfs.NewFaulty(vfs.OS(), func(op vfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if n++; n < after {
				return nil
			}
			if n == after {
				close(dead)
			}
			return fmt.Errorf("%s %s: %w", op.Kind, op.Name, killed)
		})
		west.follower = New(Deps{Bus: west.at.Bus, Node: west.at.Node, Log: west.at.Log, JournalBytesMax: 1 << 30, FS: fsys})
		west.stop = sitetest.Run(t, west.follower.Run)
		<-west.follower.Ready()
		_, err := west.follower.Acquire(t.Context(), &events.AcquireRequested{
			Assignment: events.Assignment{Operation: "5", Directory: west.id, Role: events.Slave, Epoch: 2},
			Pool:       "vms", Path: "/prod", Resync: request, KeepRefused: request%2 == 1,
		})
		if err != nil && !errors.Is(err, killed) {
			t.Fatal(err)
		}
		done := false
		sitetest.Eventually(t, "it is killed, or done", func() bool {
			select {
			case <-dead:
				return true
			default:
			}
			done = err == nil && west.shows(Replaying, "")()
			return done
		})
		west.stop()
		west.restartFollower()
		west.acquire(request, request%2 == 1)
		west.sameImages(east)
		if west.beside() {
			t.Errorf("killed at operation %d: something is left beside", after)
		}
		if done {
			if after < 30 {
				t.Errorf("only %d operations", n)
			}
			return
		}
		west.letGo()
		east.scribble(rng, "disk1", size, 5)
	}
}

// journal 299, journal 300, journal 246: a replica that the owner's journal waits for no more is
// brought back by a resync, which takes what is the same from the copy here.
func TestResyncOfADisconnectedReplica(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	east, west := newPair(t)
	east.own("")
	rng := rand.New(rand.NewPCG(3, 4))
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: size})
	east.scribble(rng, "disk0", size, 3000)
	west.follow()
	west.sameAs(east)
	must[api.Nothing](east, api.JournalDisconnect, api.JournalClientRequest{Client: "west.node"})
	sitetest.Eventually(t, "west is disconnected", west.shows(Disconnected, ""))
	east.scribble(rng, "disk0", size, 20)
	west.letGo()
	west.restartFollower()
	west.acquire(0, false)
	sitetest.Eventually(t, "west stays disconnected", west.shows(Disconnected, ""))
	west.resync(1, true)
	west.sameAs(east)
	if got := west.travelled(); got > size/10 {
		t.Errorf("%d bytes travelled", got)
	}
	if names := west.conflicts(); len(names) > 0 {
		t.Errorf("%v are kept of a copy that was only behind", names)
	}
	west.letGo()
	west.restartFollower()
	west.acquire(1, true)
	east.scribble(rng, "disk0", size, 20)
	west.sameAs(east)
}

// A copy whose journal lost what it had acknowledged cannot be opened; a resync replaces it
// all the same, but does not pretend to keep it.
func TestResyncOfACopyThatFailed(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	east, west := newPair(t)
	east.own("")
	rng := rand.New(rand.NewPCG(3, 4))
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: size})
	east.scribble(rng, "disk0", size, 2000)
	west.follow()
	west.sameAs(east)
	east.scribble(rng, "disk0", size, 20)
	west.sameAs(east)
	west.letGo()
	if err := west.at.Bus.RemoveLog(t.Context(), events.JournalStream(events.DirectoryName{Pool: "vms", Path: "/prod"}, westID)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := west.follower.Acquire(ctx, &events.AcquireRequested{
		Assignment: events.Assignment{Operation: "6", Directory: westID, Role: events.Slave}, Pool: "vms", Path: "/prod", Resync: 1, KeepRefused: true,
	}); err == nil {
		t.Fatal("a copy without its journal is opened")
	}
	west.acquire(2, false)
	west.sameAs(east)
	if got := west.travelled(); got > size/5+findingBytes {
		t.Errorf("%d bytes travelled", got)
	}
}

// journal 231: a copy that is gone, while the owner still knows its client, is made anew; the
// resync that was asked for meanwhile is done with it.
func TestCopyThatIsGoneIsSyncedAnew(t *testing.T) {
	t.Parallel()
	east, west, rng := splitBrain(t, 1, 1<<20)
	west.release()
	west.acquire(1, false)
	west.sameAs(east)
	west.letGo()
	dir := west.at.Node.ReplicaDir(westID)
	if err := replica.Destroy(vfs.OS(), dir); err != nil {
		t.Fatal(err)
	}
	if err := west.at.Bus.RemoveLog(t.Context(), events.JournalStream(events.DirectoryName{Pool: "vms", Path: "/prod"}, westID)); err != nil {
		t.Fatal(err)
	}
	east.scribble(rng, "disk0", 1<<20, 10)
	west.acquire(2, false)
	west.sameAs(east)
	if n := len(west.notes(events.ResyncStarted)); n != 1 {
		t.Errorf("%d resyncs", n)
	}
}

// journal 255: a disk that fails while a copy is closed. Who is to be promoted with all that
// was received is told, once; every other step was done all the same, so the copy opens
// again and goes on.
func TestCopyIsNotClosedInOrder(t *testing.T) {
	t.Parallel()
	east, west := newPair(t)
	east.own("")
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: 8 << 20})
	var broken atomic.Bool
	dead := errors.New("the disk is dead")
	west.stop()
	west.follower = New(Deps{
		Bus: west.at.Bus, Node: west.at.Node, Log: west.at.Log, JournalBytesMax: 1 << 30,
		FS: vfs.NewFaulty(vfs.OS(), func(op vfs.Op) error {
			if broken.Load() && op.Kind == vfs.OpSync {
				return dead
			}
			return nil
		}),
	})
	west.stop = sitetest.Run(t, west.follower.Run)
	<-west.follower.Ready()
	west.follow()
	east.write("disk0", []byte("some"), 0)
	west.sameAs(east)
	release := func() error {
		_, quiesced, err := west.follower.Release(t.Context(), &events.ReleaseRequested{
			Assignment: events.Assignment{Operation: "3", Directory: west.id, Role: events.Slave, Epoch: 3},
			Pool:       "vms", Path: "/prod", KeepAll: true,
		})
		if !quiesced {
			t.Error("the copy is still in motion")
		}
		return err
	}
	broken.Store(true)
	east.write("disk0", []byte("more"), 4<<20)
	sitetest.Eventually(t, "more has come", func() bool { return west.status().Safe.Same(east.status().Safe) })
	if err := release(); !errors.Is(err, dead) {
		t.Errorf("the copy was let go of on a dead disk: %v", err)
	}
	if err := release(); err != nil {
		t.Errorf("asked again: %v", err)
	}
	broken.Store(false)
	west.follow()
	west.sameAs(east)
}
