package replica

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"tidemark/events"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// sampled is an object of the source as it was at some moment.
type sampled struct {
	image  events.ImageID
	index  uint64
	object ObjectDigest
}

// sampling takes samples of a replica's objects until stop is called, which returns them.
func sampling(r *Replica, seed uint64) (stop func() []sampled) {
	rng := rand.New(rand.NewPCG(seed, 9))
	var out []sampled
	var running sync.WaitGroup
	stopped := make(chan struct{})
	one := func() {
		for _, info := range r.Images() {
			index := rng.Uint64N(info.Size/info.ObjectSize + 2)
			if object, err := r.Digest(View{Image: info.ID}, index); err == nil {
				out = append(out, sampled{info.ID, index, object})
			}
		}
	}
	running.Go(func() {
		for {
			one()
			select {
			case <-stopped:
				return
			default:
			}
		}
	})
	return func() []sampled { close(stopped); running.Wait(); return out }
}

// A copy that is behind its source has each object, sooner or later, in exactly the version
// in which the source was asked for it, with the same content, whatever is written, cut off,
// rolled back and merged meanwhile; and its outline at the same position is the same.
func TestWitnessesSeeWhatTheSourceHad(t *testing.T) {
	for seed := range sitetest.Rounds(uint64(20)) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 8))
			j := newJournal(rng.IntN)
			source := create1(t, vfs.OS(), filepath.Join(memDir(t), "source"))
			follower := create1(t, vfs.OS(), filepath.Join(memDir(t), "follower"))
			waited := 0
			for round := range uint64(25) {
				stop := sampling(source, seed<<8+round)
				for range 1 + rng.IntN(5) {
					j.random(8)
					mustApply(t, source, j.messages[len(j.messages)-1])
				}
				samples := stop()
				compactSome(t, source, rng)
				waited += compareAll(t, follower, source, samples, j.messages)
				compactSome(t, follower, rng)
			}
			if waited == 0 {
				t.Error("nothing was ever waited for")
			}
			if n := follower.witnesses.waiting.Load(); n != 0 {
				t.Errorf("%d witnesses are left", n)
			}
		})
	}
}

// compareAll has the follower replay to where the source is, and compares what it had on the
// way with samples; waited counts those whose moment was still to come.
func compareAll(t *testing.T, follower, source *Replica, samples []sampled, messages []events.JournalMessage) (waited int) {
	t.Helper()
	theirs, err := source.Outline()
	if err != nil {
		t.Fatal(err)
	}
	outline, passed := follower.OutlineAt(theirs.Mark.Position)
	if passed {
		t.Fatal("the follower is ahead")
	}
	witnesses := make([]*DigestWitness, len(samples))
	for i, s := range samples {
		w, err := follower.DigestAt(s.image, s.index, s.object.Version)
		if errors.Is(err, ErrNotFound) {
			continue // it comes to be later
		}
		if err != nil {
			t.Fatal(err)
		}
		witnesses[i] = w
		select {
		case <-w.Done():
		default:
			waited++
		}
	}
	if err := replaySteps(follower, messages, 3); err != nil {
		t.Fatal(err)
	}
	for i, w := range witnesses {
		if w == nil {
			continue
		}
		s := samples[i]
		select {
		case <-w.Done():
		default:
			t.Fatalf("%s never had version %v, which the source had between %v and %v", objectName(s.image, s.index), s.object.Version, s.object.AtLeast, s.object.AtMost)
		}
		if w.Err() != nil || w.Object.Content != s.object.Content {
			t.Fatalf("%s in version %v differs: %v", objectName(s.image, s.index), s.object.Version, w.Err())
		}
	}
	<-outline.Done()
	if d := outline.Outline.Differences(&theirs); len(d) > 0 {
		t.Fatalf("at %v: %+v", theirs.Mark.Position, d)
	}
	return waited
}

// withNoise returns a source and a copy of it with three layers: a snapshot of an image with a
// clone, and both images changed since.
func withNoise(t *testing.T) (j *journal, source, follower *Replica) {
	t.Helper()
	j = newJournal(nil)
	j.claim(1)
	j.batch(events.ImageCreated{Image: 1, Name: "a", Size: 1 << 20, ObjectSize: 64 << 10})
	j.batch(fillBlocks(1, 0, 8, 1))
	j.batch(events.SnapshotsCreated{Name: "s", First: 1, Images: []events.ImageID{1}})
	j.batch(events.SnapshotProtected{Image: 1, Snapshot: 1}, events.ImageCloned{Image: 2, Name: "b", Parent: 1, Snapshot: 1})
	j.batch(fillBlocks(1, 2, 2, 3), fillBlocks(2, 4, 2, 4))
	source, follower = create1(t, vfs.OS(), memDir(t)), create1(t, vfs.OS(), memDir(t))
	for _, r := range []*Replica{source, follower} {
		if err := replay(r, j.messages); err != nil {
			t.Fatal(err)
		}
		mustCheckpoint(t, r)
	}
	return j, source, follower
}

// spoil changes a byte of a block in the file of the layer that a view reads it from.
func spoil(t *testing.T, r *Replica, v View, index, block uint64) {
	t.Helper()
	err := r.withView(v, index, func(l *layer) error {
		at := l.holding(index, block)
		if at == nil {
			t.Fatal("the block lies nowhere")
		}
		var b [1]byte
		offset := index*l.objectSize + block*BlockSize + 77
		if err := at.readFile(offset, b[:]); err != nil {
			return err
		}
		b[0] ^= 0x40
		return at.writeFile(offset, b[:])
	})
	if err != nil {
		t.Fatal(err)
	}
}

func digestOfView(t *testing.T, r *Replica, v View) ObjectDigest {
	t.Helper()
	d, err := r.Digest(v, 0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRepair(t *testing.T) {
	image, snapshot, clone := View{Image: 1}, View{Image: 1, Snapshot: 1}, View{Image: 2}
	j, source, follower := withNoise(t)
	good := map[View]ObjectDigest{}
	for _, v := range []View{image, snapshot, clone} {
		good[v] = digestOfView(t, source, v)
		if got := digestOfView(t, follower, v); got.Content != good[v].Content {
			t.Fatalf("%v differs to begin with", v)
		}
	}
	blocks := func(n ...uint) []uint64 {
		var word uint64
		for _, n := range n {
			word |= 1 << n
		}
		return []uint64{word}
	}
	content := func(v View, which []uint64) ObjectCopy {
		c, err := source.ReadBlocks(v, 0, which)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	spoil(t, follower, image, 0, 2)    // in the image's own layer
	spoil(t, follower, snapshot, 0, 7) // below all three
	for v := range good {
		if got := digestOfView(t, follower, v); got.Content == good[v].Content {
			t.Errorf("%v does not differ", v)
		}
	}
	if _, err := follower.RepairAt(1, 0, content(image, blocks(2))); err != nil {
		t.Fatal(err)
	}
	w, err := follower.RepairAt(1, 0, content(image, blocks(7)))
	if err != nil {
		t.Fatal(err)
	}
	if <-w.Done(); !errors.Is(w.Err(), ErrNotRepairable) {
		t.Errorf("a block of the snapshot was repaired through the image: %v", w.Err())
	}
	if err := follower.RepairSnapshot(snapshot, 0, content(snapshot, blocks(7))); err != nil {
		t.Fatal(err)
	}
	if err := follower.RepairSnapshot(snapshot, 0, content(snapshot, blocks(9))); !errors.Is(err, ErrNotRepairable) {
		t.Errorf("a block that lies nowhere: %v", err)
	}
	mustCheckpoint(t, follower)
	if err := follower.Close(); err != nil {
		t.Fatal(err)
	}
	follower = reopen(t, vfs.OS(), follower.dir)
	for v := range good {
		if got := digestOfView(t, follower, v); got.Content != good[v].Content {
			t.Errorf("%v differs after its repair", v)
		}
	}

	// What is ahead of the copy is repaired when the copy comes there, not before.
	b := j.batch(fillBlocks(1, 5, 1, 9))
	mustApply(t, source, b)
	spoil(t, follower, image, 0, 2)
	w, err = follower.RepairAt(1, 0, content(image, blocks(2)))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.Done():
		t.Fatal("it was repaired in another version")
	default:
	}
	mustApply(t, follower, b)
	if <-w.Done(); w.Err() != nil {
		t.Fatal(w.Err())
	}
	j.now.check(t, follower)
}

func TestHoldApply(t *testing.T) {
	j, _, follower := withNoise(t)
	at, release := follower.HoldApply()
	if at != follower.Applied().Position {
		t.Errorf("held at %v, applied %v", at, follower.Applied().Position)
	}
	applied := make(chan error, 1)
	b := j.batch(fillBlocks(1, 5, 1, 9))
	go func() { applied <- follower.Apply(b, 9) }()
	if now := digestOfView(t, follower, View{Image: 1}); now.AtMost != at {
		t.Errorf("something is being applied: %v", now.AtMost)
	}
	select {
	case err := <-applied:
		t.Errorf("it was applied while held: %v", err)
	default:
	}
	release()
	release()
	if err := <-applied; err != nil {
		t.Fatal(err)
	}
}
