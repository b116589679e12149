package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/vfs"
)

// diskUsed returns how many bytes the layers' files take on the disk, and how many there are.
func diskUsed(t *testing.T, r *Replica) (bytes uint64, files int) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(r.dir, layersFolder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		bytes += uint64(info.Sys().(*syscall.Stat_t).Blocks) * 512
	}
	return bytes, len(names)
}

func compactAll(t *testing.T, r *Replica) {
	t.Helper()
	for steps := 0; ; steps++ {
		more, err := r.Compact(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
		if steps > 10000 {
			t.Fatal("compaction does not end")
		}
	}
	mustCheckpoint(t, r)
}

// fill returns an event that writes n blocks of a value.
func fillBlocks(image events.ImageID, from, n int, value byte) events.Event {
	data := make([]byte, n*BlockSize)
	for i := range data {
		data[i] = value
	}
	return events.Written{Image: image, Offset: uint64(from) * BlockSize, Data: data}
}

// TestSpaceComesBack removes snapshots from the middle, the end and the start of a chain,
// and flattens a clone: what nobody sees any more leaves the disk.
func TestSpaceComesBack(t *testing.T) {
	j := newJournal(nil)
	j.claim(1)
	one := []events.ImageID{1}
	j.batch(events.ImageCreated{Image: 1, Name: "a", Size: 4 << 20, ObjectSize: 64 << 10})
	r := create1(t, vfs.OS(), memDir(t))
	for i := range 4 { // each layer holds 48 blocks of its own, 32 of which the next one covers
		j.batch(fillBlocks(1, 16*i, 48, byte(i+1)))
		j.batch(events.SnapshotsCreated{Name: string(rune('a' + i)), First: events.SnapshotID(i + 1), Images: one})
	}
	j.batch(events.SnapshotProtected{Image: 1, Snapshot: 4}, events.ImageCloned{Image: 2, Name: "c", Parent: 1, Snapshot: 4})
	j.batch(fillBlocks(2, 0, 8, 99))
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	mustCheckpoint(t, r)
	expect := func(what string, blocks, files int) {
		t.Helper()
		compactAll(t, r)
		j.now.check(t, r)
		if used, n := diskUsed(t, r); used != uint64(blocks)*BlockSize || n != files {
			t.Errorf("%s: %d blocks in %d files, not %d in %d", what, used/BlockSize, n, blocks, files)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r = reopen(t, vfs.OS(), r.dir)
		j.now.check(t, r)
	}
	expect("four snapshots and a clone", 4*48+8, 6)
	mustApply(t, r, j.batch(events.SnapshotRemoved{Image: 1, Snapshot: 2}))
	expect("without the middle one", 4*48+8-32, 5)
	mustApply(t, r, j.batch(events.SnapshotRemoved{Image: 1, Snapshot: 1}))
	expect("without the oldest one", 4*48+8-32-48+16, 4)
	mustApply(t, r, j.batch(events.ImageFlattened{Image: 2}))
	expect("the clone on its own", 80+48+96, 4)
	mustApply(t, r, j.batch(events.SnapshotUnprotected{Image: 1, Snapshot: 4}, events.SnapshotRemoved{Image: 1, Snapshot: 4},
		events.SnapshotRemoved{Image: 1, Snapshot: 3}))
	expect("no snapshot at all", 2*96, 2)
}

// TestPull copies a clone's content before it is flattened: its parent may go then at once.
func TestPull(t *testing.T) {
	j, r := withSnapshots(t)
	for {
		left, err := r.Pull(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		j.now.check(t, r)
		if left == 0 {
			break
		}
	}
	if img := imageNamed(t, r, "c"); img.active.parent != nil {
		t.Error("the clone still stands on its parent's layer")
	}
	if _, err := r.Pull(t.Context(), 9); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("pull of nothing: %v", err)
	}
	mustApply(t, r, j.batch(events.ImageFlattened{Image: 2}, events.SnapshotUnprotected{Image: 1, Snapshot: 2},
		events.SnapshotRemoved{Image: 1, Snapshot: 2}, events.SnapshotRemoved{Image: 1, Snapshot: 1}, events.ImageRemoved{Image: 1}))
	j.now.check(t, r)
	mustCheckpoint(t, r)
	if _, files := diskUsed(t, r); files != 1 {
		t.Errorf("%d files are left, not the clone's", files)
	}
}

func TestHoldCompaction(t *testing.T) {
	j, r := withSnapshots(t)
	mustApply(t, r, j.batch(events.SnapshotRemoved{Image: 1, Snapshot: 1}))
	release, again := r.HoldCompaction(), r.HoldCompaction()
	layers := len(r.Layers())
	for _, let := range []func(){func() {}, release, release} {
		let() // twice is once
		if more, err := r.Compact(t.Context()); more || err != nil || len(r.Layers()) != layers {
			t.Fatalf("compaction under a hold: %v, %v", more, err)
		}
	}
	if _, err := r.Pull(t.Context(), 2); fault.CodeOf(err) != fault.NotReady {
		t.Errorf("pull under a hold: %v", err)
	}
	again()
	compactAll(t, r)
	if got := len(r.Layers()); got != layers-1 {
		t.Errorf("%d layers are left of %d", got, layers)
	}
}

// TestDeepChain reads and writes through 200 snapshots, and merges them all.
func TestDeepChain(t *testing.T) {
	const depth, blocks = 200, 64
	j := newJournal(rand.New(rand.NewPCG(1, 20)).IntN)
	j.claim(1)
	j.batch(events.ImageCreated{Image: 1, Name: "a", Size: blocks * BlockSize, ObjectSize: 8 * BlockSize})
	for i := range depth {
		j.batch(j.io(), events.SnapshotsCreated{Name: fmt.Sprintf("s%d", i), First: events.SnapshotID(i + 1), Images: []events.ImageID{1}})
	}
	r := create1(t, vfs.OS(), memDir(t))
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	j.now.check(t, r)
	mustCheckpoint(t, r)
	for i := range depth {
		if i != depth/2 {
			mustApply(t, r, j.batch(events.SnapshotRemoved{Image: 1, Snapshot: events.SnapshotID(i + 1)}))
		}
	}
	compactAll(t, r)
	j.now.check(t, r)
	if got := len(r.Layers()); got != 2 {
		t.Errorf("%d layers are left, not 2", got)
	}
}

// TestConcurrentStructure lets readers watch an image, a clone and snapshots while layers
// come, go and merge: what a snapshot holds never changes, an image never goes back.
func TestConcurrentStructure(t *testing.T) {
	const blocks, rounds = 8, 120
	j := newJournal(rand.New(rand.NewPCG(1, 21)).IntN)
	j.claim(1)
	j.batch(events.ImageCreated{Image: 1, Name: "a", Size: blocks * BlockSize, ObjectSize: 2 * BlockSize})
	r := create1(t, vfs.OS(), memDir(t))
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	img, _ := r.Image(1)
	done := make(chan struct{})
	var others sync.WaitGroup
	for i := range uint64(2) {
		others.Go(func() { watch(t, r, img, rand.New(rand.NewPCG(i, 22)), done) })
	}
	others.Go(func() { watchSnapshots(t, img, done) })
	others.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := r.Compact(t.Context()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	value := func(n uint64) []byte {
		var data []byte
		for range blocks * BlockSize / 8 {
			data = binary.BigEndian.AppendUint64(data, n)
		}
		return data
	}
	for n := range uint64(rounds) {
		id := events.SnapshotID(n + 1)
		mustApply(t, r, j.batch(
			events.Written{Image: 1, Data: value(n + 1)},
			events.SnapshotsCreated{Name: "s", First: id, Images: []events.ImageID{1}},
			events.SnapshotRenamed{Image: 1, Snapshot: id, Name: fmt.Sprintf("t%d", n)},
		))
		mustApply(t, r, j.batch(events.Written{Image: 1, Offset: n % blocks * BlockSize, Data: value(n + 2)[:BlockSize]}))
		if n >= 3 {
			mustApply(t, r, j.batch(events.SnapshotRemoved{Image: 1, Snapshot: id - 3}))
		}
	}
	close(done)
	others.Wait()
	j.now.check(t, r)
}

// watchSnapshots reads snapshots, all blocks of which have one value, until done.
func watchSnapshots(t *testing.T, img *Image, done <-chan struct{}) {
	p := make([]byte, img.Size())
	for {
		select {
		case <-done:
			return
		default:
		}
		for _, info := range img.Snapshots() {
			s, ok := img.Snapshot(info.Name)
			if !ok {
				continue
			}
			if _, err := s.ReadAt(p, 0); err != nil {
				continue // removed
			}
			if _, err := s.Extents(0, s.Size()); err != nil {
				continue
			}
			want := blockValue(t, p[:BlockSize])
			for b := BlockSize; b < len(p); b += BlockSize {
				if got := blockValue(t, p[b:][:BlockSize]); got != want {
					t.Errorf("snapshot %q holds %d and %d", info.Name, want, got)
					return
				}
			}
		}
	}
}

// TestCompactionWithoutSpace fails the copy of a step: the replica goes on, and a later step
// finds what the failed one left.
func TestCompactionWithoutSpace(t *testing.T) {
	j, r := withSnapshots(t)
	mustApply(t, r, j.batch(events.SnapshotRemoved{Image: 1, Snapshot: 1}, events.ImageFlattened{Image: 2}))
	mustCheckpoint(t, r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = reopen(t, vfs.NewFaulty(vfs.OS(), vfs.FailNth(vfs.OpWrite, 1, errInjected)), r.dir)
	more, err := true, error(nil)
	for more && err == nil { // the first step has nothing to copy
		more, err = r.Compact(t.Context())
	}
	if !errors.Is(err, errInjected) {
		t.Fatalf("compaction without space: %v", err)
	}
	j.now.check(t, r)
	mustApply(t, r, j.batch(events.Written{Image: 1, Data: []byte("goes on")}))
	compactAll(t, r)
	j.now.check(t, r)
	if got := len(r.Layers()); got != 3 {
		t.Errorf("%d layers are left, not 3", got)
	}
}

// TestPullAfterAPartOfAMerge kills a replica that has moved an object of a clone's lowest
// layer up and then pulled at the same place from the parent's: as the last checkpoint has
// it the object is still in the lowest layer.
func TestPullAfterAPartOfAMerge(t *testing.T) {
	j := newJournal(nil)
	j.claim(1)
	j.batch(
		events.ImageCreated{Image: 1, Name: "a", Size: 64 << 10, ObjectSize: 16 << 10}, fillBlocks(1, 0, 16, 1),
		events.SnapshotsCreated{Name: "s", First: 1, Images: []events.ImageID{1}}, events.SnapshotProtected{Image: 1, Snapshot: 1},
		events.ImageCloned{Image: 2, Name: "c", Parent: 1, Snapshot: 1}, fillBlocks(2, 0, 1, 2), fillBlocks(2, 4, 1, 2),
		events.SnapshotsCreated{Name: "t", First: 2, Images: []events.ImageID{2}}, fillBlocks(2, 8, 8, 3),
		events.SnapshotRemoved{Image: 2, Snapshot: 2},
	)
	r := create1(t, vfs.OS(), memDir(t))
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	r.step.objects = 1
	if more, err := r.Compact(t.Context()); !more || err != nil {
		t.Fatalf("%v, %v", more, err)
	}
	if _, err := r.Pull(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	j.now.check(t, r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = reopen(t, vfs.OS(), r.dir)
	j.now.check(t, r)
}

// TestMergeUnderWrites takes steps while more is written to the upper layer than one moves:
// what is not written to moves, however much lies before it, and then there is nothing to
// do at once. When the writes end, so does the merge.
func TestMergeUnderWrites(t *testing.T) {
	j := newJournal(nil)
	j.claim(1)
	j.batch(
		events.ImageCreated{Image: 1, Name: "a", Size: 64 << 10, ObjectSize: 4 << 10}, fillBlocks(1, 0, 16, 1),
		events.SnapshotsCreated{Name: "s", First: 1, Images: []events.ImageID{1}}, fillBlocks(1, 0, 8, 2),
		events.SnapshotRemoved{Image: 1, Snapshot: 1},
	)
	r := create1(t, vfs.OS(), memDir(t))
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	mustCheckpoint(t, r)
	mustApply(t, r, j.batch(fillBlocks(1, 0, 4, 3)))
	r.step = stepSize{bytes: BlockSize, objects: 2}
	step := func() bool {
		r.applying.Lock()
		defer r.applying.Unlock()
		again, err := r.mergeStep(r.layers[1], r.layers[2])
		if err != nil {
			t.Fatal(err)
		}
		return again
	}
	for i := range 4 {
		if !step() {
			t.Fatalf("the merge waits after %d steps", i)
		}
	}
	for range 2 {
		if used := r.layers[2].used; step() || used != 4 {
			t.Errorf("%d blocks left, and more to do at once", used)
		}
	}
	compactAll(t, r)
	if len(r.layers) != 1 {
		t.Errorf("%d layers", len(r.layers))
	}
	j.now.check(t, r)
}

// TestReadsOfACloneWhileItsLayersMerge: what a clone's own layer stands on is replaced under
// its readers, who see nothing of it.
func TestReadsOfACloneWhileItsLayersMerge(t *testing.T) {
	j, one := newJournal(nil), []events.ImageID{1}
	j.claim(1)
	j.batch(
		events.ImageCreated{Image: 1, Name: "a", Size: 4 << 20, ObjectSize: 64 << 10}, fillBlocks(1, 0, 48, 1),
		events.SnapshotsCreated{Name: "s", First: 1, Images: one}, fillBlocks(1, 16, 16, 2),
		events.SnapshotsCreated{Name: "t", First: 2, Images: one}, events.SnapshotProtected{Image: 1, Snapshot: 2},
		events.ImageCloned{Image: 2, Name: "c", Parent: 1, Snapshot: 2}, fillBlocks(2, 0, 8, 9),
		events.SnapshotRemoved{Image: 1, Snapshot: 1},
	)
	r := create1(t, vfs.OS(), memDir(t))
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	img := imageNamed(t, r, "c")
	want, before := make([]byte, img.Size()), img.active.parent
	if _, err := img.ReadAt(want, 0); err != nil {
		t.Fatal(err)
	}
	done, reading := make(chan struct{}), sync.WaitGroup{}
	reading.Go(func() {
		p := make([]byte, img.Size())
		for {
			if _, err := img.ReadAt(p, 0); err != nil || !bytes.Equal(p, want) {
				t.Errorf("the clone changes while layers merge: %v", err)
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	compactAll(t, r)
	close(done)
	reading.Wait()
	if img.active.parent == before {
		t.Error("no layer was replaced: the test tests nothing")
	}
	j.now.check(t, r)
}
