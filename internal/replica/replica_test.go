package replica

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

func testIdentity() Identity {
	return Identity{Directory: "0123456789abcdef", Name: events.DirectoryName{Pool: "vms", Path: "/prod"}, History: "h1"}
}

// memDir returns a folder in memory where there is such a filesystem: a crash test cuts
// the power of its own filesystem, and needs no disk to wait for.
func memDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "tidemark-replica-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func create1(t testing.TB, fsys vfs.FS, dir string) *Replica {
	t.Helper()
	r, err := Create(fsys, dir, testIdentity())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func reopen(t testing.TB, fsys vfs.FS, dir string) *Replica {
	t.Helper()
	r, err := Open(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func mustApply(t testing.TB, r *Replica, m events.JournalMessage) {
	t.Helper()
	if err := r.Apply(m, 1); err != nil {
		t.Fatal(err)
	}
}

func mustCheckpoint(t testing.TB, r *Replica) events.Mark {
	t.Helper()
	mark, err := r.Checkpoint(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return mark
}

// replay applies the messages of a journal behind what was applied.
func replay(r *Replica, messages []events.JournalMessage) error {
	return replaySteps(r, messages, 1)
}

// replaySteps is replay with a number of messages at once.
func replaySteps(r *Replica, messages []events.JournalMessage, n int) error {
	for next := 0; next < len(messages); {
		from, to := next, stepEnd(messages, next, n)
		for from < to && messages[from].Ends().Position <= r.Applied().Position {
			from++
		}
		if from < to {
			if err := r.ApplyRun(messages[from:to], uint64(to)); err != nil {
				return err
			}
		}
		next = to
	}
	return nil
}

// compactSome takes some steps of compaction.
func compactSome(t testing.TB, r *Replica, rng *rand.Rand) {
	t.Helper()
	r.step = stepSize{bytes: 4 * BlockSize, objects: 1 + rng.IntN(4)}
	for range 1 + rng.IntN(4) {
		if _, err := r.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, info := range r.Images() {
		if rng.IntN(4) == 0 {
			if _, err := r.Pull(t.Context(), info.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestCreateOpenDestroy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r")
	if _, err := Open(vfs.OS(), dir); !errors.Is(err, ErrNotFound) || fault.CodeOf(err) != fault.NotFound {
		t.Fatalf("open of nothing: %v", err)
	}
	if err := Destroy(vfs.OS(), dir); !errors.Is(err, ErrNotFound) {
		t.Fatalf("destroy of nothing: %v", err)
	}
	r := create1(t, vfs.OS(), dir)
	for what, f := range map[string]func() error{
		"open":    func() error { _, err := Open(vfs.OS(), dir); return err },
		"create":  func() error { _, err := Create(vfs.OS(), dir, testIdentity()); return err },
		"destroy": func() error { return Destroy(vfs.OS(), dir) },
	} {
		if err := f(); !errors.Is(err, vfs.ErrLocked) || fault.CodeOf(err) != fault.Busy {
			t.Errorf("%s of a replica in use: %v", what, err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, err := r.Checkpoint(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("checkpoint after close: %v", err)
	}
	if _, err := Create(vfs.OS(), dir, testIdentity()); !errors.Is(err, ErrExists) || fault.CodeOf(err) != fault.Exists {
		t.Errorf("create over a replica: %v", err)
	}
	r = reopen(t, vfs.OS(), dir)
	if got := r.Identity(); got != testIdentity() {
		t.Errorf("identity %+v", got)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Destroy(vfs.OS(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after destroy: %v", err)
	}
}

func TestApplyMatchesModel(t *testing.T) {
	for seed := range sitetest.Rounds(uint64(40)) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			applyRandom(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

// applyRandom applies a history with staging ahead, checkpoints and reopenings.
func applyRandom(t *testing.T, rng *rand.Rand) {
	dir := filepath.Join(t.TempDir(), "r")
	r := create1(t, vfs.OS(), dir)
	j := newJournal(rng.IntN)
	for range 60 {
		j.random(8)
	}
	staged := 0
	for i, m := range j.messages {
		for ahead := rng.IntN(4); staged < len(j.messages) && staged <= i+ahead; staged++ {
			if b, ok := j.messages[staged].(*events.Batch); ok {
				r.Stage(b)
			}
		}
		if err := r.Apply(m, uint64(i)); err != nil {
			t.Fatal(err)
		}
		if staged == i+1 {
			if err := j.states[i].differs(r); err != nil {
				t.Fatalf("after message %d: %v", i, err)
			}
		}
		if rng.IntN(3) == 0 {
			compactSome(t, r, rng)
			if staged == i+1 {
				if err := j.states[i].differs(r); err != nil {
					t.Fatalf("after compaction behind message %d: %v", i, err)
				}
			}
		}
		if rng.IntN(6) == 0 {
			if mark := mustCheckpoint(t, r); !mark.Same(m.Ends()) {
				t.Fatalf("checkpoint %v after %v", mark, m.Ends())
			}
		}
		if rng.IntN(10) == 0 {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			r = reopen(t, vfs.OS(), dir)
			if err := replay(r, j.messages[:i+1]); err != nil {
				t.Fatal(err)
			}
			j.states[i].check(t, r)
			staged = i + 1
		}
	}
	for _, img := range r.images {
		for i := range img.stripes {
			if n := len(img.stripes[i].staged); n > 0 {
				t.Errorf("%d objects are still staged over after all was applied", n)
			}
		}
	}
}
