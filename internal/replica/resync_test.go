package replica

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// twoCopies makes two replicas of different content beside each other: the one beside is
// complete.
func twoCopies(t *testing.T) (dir string, old, fresh events.Mark) {
	t.Helper()
	dir = filepath.Join(memDir(t), "copy")
	fill := func(dir string, seed uint64) events.Mark {
		j := newJournal(rand.New(rand.NewPCG(seed, 3)).IntN)
		r := create1(t, vfs.OS(), dir)
		for range 5 {
			j.random(6)
			mustApply(t, r, j.messages[len(j.messages)-1])
		}
		if _, err := r.checkpoint(); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		return r.Applied()
	}
	return dir, fill(dir, 1), fill(Beside(dir), 2)
}

// takesPlace decides that the copy beside takes the place.
func takesPlace(t *testing.T, dir, keep string) {
	t.Helper()
	r := reopen(t, vfs.OS(), Beside(dir))
	if err := errors.Join(r.TakePlace(3, keep), r.Close()); err != nil {
		t.Fatal(err)
	}
}

func markIn(t *testing.T, dir string) events.Mark {
	t.Helper()
	r := reopen(t, vfs.OS(), dir)
	defer func() { _ = r.Close() }()
	return r.Applied()
}

// A copy takes another's place in steps. Whatever fails, and whenever the process dies, the
// next call goes on: there is one copy or the other, and the decision holds.
func TestReplaceIsCutShortAnywhere(t *testing.T) {
	broken := errors.New("the process dies")
	for _, keep := range []string{"", "7.9"} {
		for step := 1; ; step++ {
			dir, old, fresh := twoCopies(t)
			if done, err := Replace(vfs.OS(), dir); done || err != nil || !markIn(t, dir).Same(old) {
				t.Fatalf("a copy that is only prepared: done %v, %v", done, err)
			}
			takesPlace(t, dir, keep)
			n := 0
			fsys := vfs.NewFaulty(vfs.OS(), func(op vfs.Op) error {
				if n++; n >= step { // and nothing after it either
					return fmt.Errorf("%s %s: %w", op.Kind, op.Name, broken)
				}
				return nil
			})
			_, err := Replace(fsys, dir)
			if err == nil {
				if n < 5 {
					t.Fatalf("only %d steps", n)
				}
				break
			}
			if !errors.Is(err, broken) {
				t.Fatalf("step %d: %v", step, err)
			}
			if _, err := Replace(vfs.OS(), dir); err != nil {
				t.Fatalf("after step %d: %v", step, err)
			}
			r := reopen(t, vfs.OS(), dir)
			if !r.Applied().Same(fresh) || !r.NewJournal() || r.Resynced() != 3 {
				t.Errorf("after step %d: at %v, new journal %v, request %d", step, r.Applied().Position, r.NewJournal(), r.Resynced())
			}
			if _, seq := r.Committed(); seq != 0 {
				t.Errorf("after step %d: the copy stands at message %d of a journal that is empty", step, seq)
			}
			_ = r.Close()
			folders, err := RefusedFolders(vfs.OS(), dir)
			if err != nil || len(folders) != len(keep)/3 {
				t.Errorf("after step %d: kept %v, %v", step, folders, err)
			}
			if keep != "" && !markIn(t, Refused(dir, keep)).Same(old) {
				t.Errorf("after step %d: what is kept is not the old copy", step)
			}
			if there, err := vfs.OS().Exists(Beside(dir)); there || err != nil {
				t.Errorf("after step %d: something is left beside: %v", step, err)
			}
		}
	}
}

func TestNoteOfResyncsOnlyGrows(t *testing.T) {
	dir := filepath.Join(memDir(t), "copy")
	r := create1(t, vfs.OS(), dir)
	if r.Resynced() != 0 {
		t.Error("a new copy has seen a resync")
	}
	for _, n := range []uint64{4, 2} {
		if err := r.SetResynced(n); err != nil {
			t.Fatal(err)
		}
	}
	_ = r.Close()
	if r = reopen(t, vfs.OS(), dir); r.Resynced() != 4 {
		t.Errorf("seen up to %d", r.Resynced())
	}
	if err := r.TakePlace(2, ""); err != nil || r.Resynced() != 4 {
		t.Errorf("seen up to %d: %v", r.Resynced(), err)
	}
	_ = r.Close()
	if err := Drop(vfs.OS(), dir); err != nil {
		t.Errorf("drop what is not there: %v", err)
	}
}

// What is the same in two copies is left out of one and put back from the other; what
// contradicts itself is refused.
func TestBlocksThatAreTheSameAreLeftOut(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		const words = 2
		source, have := ObjectCopy{Blocks: make([]uint64, words)}, ObjectCopy{Blocks: make([]uint64, words)}
		different := 0
		for b := range 64 * words {
			block := bytes.Repeat([]byte{byte(1 + rng.IntN(3))}, BlockSize)
			inSource, inHave := rng.IntN(3) > 0, rng.IntN(3) > 0
			if inSource {
				source.Blocks[b/64] |= 1 << (b % 64)
				source.Data = append(source.Data, block...)
			}
			if inHave {
				other := bytes.Clone(block)
				if rng.IntN(4) == 0 {
					other[rng.IntN(BlockSize)] ^= 0x80
				}
				have.Blocks[b/64] |= 1 << (b % 64)
				have.Data = append(have.Data, other...)
				if inSource && bytes.Equal(block, other) {
					continue
				}
			}
			if inSource {
				different++
			}
		}
		want := bytes.Clone(source.Data)
		source.LeaveOut(have.Blocks, AppendDigests(nil, have.Data))
		if len(source.Data) != different*BlockSize {
			t.Fatalf("%d blocks travel, %d differ", len(source.Data)/BlockSize, different)
		}
		damaged := source
		if damaged.Same != nil {
			if err := damaged.PutBack(ObjectCopy{Blocks: make([]uint64, words)}); err == nil {
				t.Fatal("blocks came from nowhere")
			}
		}
		if err := source.PutBack(have); err != nil || !bytes.Equal(source.Data, want) || source.Same != nil {
			t.Fatalf("the copy differs: %v", err)
		}
	}
}

// journal 228: a copy whose note of resyncs cannot be read is not opened as one that has seen
// none; one that an older program made has seen none.
func TestDamagedNoteOfResyncs(t *testing.T) {
	dir := filepath.Join(memDir(t), "copy")
	r := create1(t, vfs.OS(), dir)
	if err := errors.Join(r.SetResynced(4), r.Close()); err != nil {
		t.Fatal(err)
	}
	change := func(f func(b *bbolt.Bucket) error) {
		t.Helper()
		m, err := openBolt(filepath.Join(dir, metaName))
		if err != nil {
			t.Fatal(err)
		}
		err = m.db.Update(func(tx *bbolt.Tx) error { return f(tx.Bucket([]byte(bucketReplica))) })
		if err := errors.Join(err, m.close()); err != nil {
			t.Fatal(err)
		}
	}
	change(func(b *bbolt.Bucket) error {
		v := bytes.Clone(b.Get([]byte(keyResync)))
		v[1] ^= 1
		return b.Put([]byte(keyResync), v)
	})
	if _, err := Open(vfs.OS(), dir); fault.CodeOf(err) != fault.Corrupt {
		t.Errorf("open: %v", err)
	}
	change(func(b *bbolt.Bucket) error { return b.Delete([]byte(keyResync)) })
	if r = reopen(t, vfs.OS(), dir); r.Resynced() != 0 {
		t.Errorf("seen up to %d", r.Resynced())
	}
}

// Two copies of one history, of which one has merged layers and the other has not: what has
// the same imprint in both has the same content. Versions alone would not tell.
func TestImprintsTellMergedLayers(t *testing.T) {
	misleading := 0
	for seed := range sitetest.Rounds(uint64(20)) {
		j := newJournal(rand.New(rand.NewPCG(seed, 8)).IntN)
		merged, apart := create1(t, vfs.OS(), filepath.Join(memDir(t), "a")), create1(t, vfs.OS(), filepath.Join(memDir(t), "b"))
		for range 60 {
			j.random(6)
			for _, r := range []*Replica{merged, apart} {
				mustApply(t, r, j.messages[len(j.messages)-1])
			}
		}
		for more := true; more; {
			var err error
			if more, err = merged.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, l := range merged.Layers() {
			indices, err := merged.LayerObjects(l.ID)
			if err != nil {
				t.Fatal(err)
			}
			for index := range indices {
				a, err := merged.ImprintObject(l.ID, index)
				if err != nil {
					t.Fatal(err)
				}
				b, err := apart.ImprintObject(l.ID, index)
				if err != nil || a.Version != b.Version {
					continue
				}
				x, errX := merged.CopyObject(l.ID, index, nil)
				y, errY := apart.CopyObject(l.ID, index, nil)
				if err := errors.Join(errX, errY); err != nil {
					t.Fatal(err)
				}
				same := bytes.Equal(x.Data, y.Data)
				if !same {
					misleading++
				}
				if a == b && !same {
					t.Fatalf("seed %d: object %d of layer %d has one imprint and two contents", seed, index, l.ID)
				}
			}
		}
	}
	if misleading == 0 {
		t.Error("no object had one version and two contents: nothing was tried")
	}
}
