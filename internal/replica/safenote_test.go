package replica

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"tidemark/events"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// The note of a journal that is no more never outlives the journal, whenever power is lost
// and whatever of the note had reached the disk: the new journal, which is shorter, would be
// taken for one that has lost its tail.
func TestSafeNoteDoesNotOutliveItsJournal(t *testing.T) {
	give := map[string]func(r *Replica, common events.Mark) error{
		"replaced": func(r *Replica, common events.Mark) error {
			if err := r.Rewind(common); err != nil {
				return err
			}
			return r.JournalReplaced()
		},
		"given up": func(r *Replica, _ events.Mark) error { return r.ContinueBehind(0) },
	}
	for name, giveUp := range give {
		t.Run(name, func(t *testing.T) {
			for seed := range sitetest.Rounds(uint64(10)) {
				noteGoesWithItsJournal(t, seed, name == "replaced", giveUp)
			}
		})
	}
}

func noteGoesWithItsJournal(t *testing.T, seed uint64, always bool, giveUp func(*Replica, events.Mark) error) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 5))
	var fsys *vfs.Crash
	dir, armed := filepath.Join(memDir(t), "r"), false
	cut := func(done bool) {
		after := filepath.Join(memDir(t), "after")
		if err := fsys.Image(dir, after, rng); err != nil {
			t.Fatal(err)
		}
		opened := reopen(t, vfs.OS(), after)
		_, seq := opened.Committed()
		again := opened.NewJournal() || !done && !always // or it is asked for again
		if _, noted := opened.NotedSafe(); noted > seq && !again {
			t.Fatalf("seed %d: the journal goes on behind message %d, and message %d is noted", seed, seq, noted)
		}
		if err := opened.Close(); err != nil {
			t.Fatal(err)
		}
	}
	fsys = vfs.NewCrash(vfs.OS(), func(vfs.Op) {
		if armed {
			cut(false)
		}
	})
	r := create1(t, fsys, dir)
	j := twoImages()
	common := j.mark
	j.claim(1)
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	mustCheckpoint(t, r)
	if err := r.NoteSafe(j.mark, 100); err != nil {
		t.Fatal(err)
	}
	if err := r.safe.file.Sync(); err != nil { // the kernel has written it back by itself
		t.Fatal(err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		t.Fatal(err)
	}
	armed = true
	err := giveUp(r, common)
	armed = false
	if err != nil {
		t.Fatal(err)
	}
	cut(true)
}
