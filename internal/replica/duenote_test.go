package replica

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// The note survives power loss as soon as it was made, and is gone as soon as it was taken
// back. One that is damaged is none.
func TestDueNoteSurvivesPowerLoss(t *testing.T) {
	for seed := range sitetest.Rounds(uint64(20)) {
		rng := rand.New(rand.NewPCG(seed, 21))
		fsys, dir := vfs.NewCrash(vfs.OS(), nil), filepath.Join(memDir(t), "r")
		r := create1(t, fsys, dir)
		cut := func(want uint64, noted bool) {
			t.Helper()
			after := filepath.Join(memDir(t), "after")
			if err := fsys.Image(dir, after, rng); err != nil {
				t.Fatal(err)
			}
			opened := reopen(t, vfs.OS(), after)
			if got, ok := opened.NotedDue(); got != want || ok != noted {
				t.Fatalf("seed %d: after power loss %d, %v; want %d, %v", seed, got, ok, want, noted)
			}
			if err := opened.Close(); err != nil {
				t.Fatal(err)
			}
		}
		cut(0, false)
		for _, sequence := range []uint64{0, 7, 1 << 40} {
			if err := r.NoteDue(sequence); err != nil {
				t.Fatal(err)
			}
			cut(sequence, true)
		}
		if err := r.ContinueBehind(3); err != nil {
			t.Fatal(err)
		}
		cut(3, true)
		if err := r.ForgetDue(); err != nil {
			t.Fatal(err)
		}
		cut(0, false)
		if err := r.ContinueBehind(4); err != nil {
			t.Fatal(err)
		}
		cut(0, false)
	}
}

func TestDamagedDueNoteIsNone(t *testing.T) {
	dir := filepath.Join(memDir(t), "r")
	r := create1(t, vfs.OS(), dir)
	if err := r.NoteDue(7); err != nil {
		t.Fatal(err)
	}
	if _, err := r.due.file.WriteAt([]byte{8}, 0); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got, ok := reopen(t, vfs.OS(), dir).NotedDue(); ok {
		t.Errorf("a damaged note of %d counts", got)
	}
}
