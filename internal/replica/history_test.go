package replica

import (
	"testing"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/vfs"
)

// Claims that nothing followed are given up, durably, and another history goes on from there.
func TestRewind(t *testing.T) {
	for _, saved := range []bool{true, false} { // the claims were checkpointed, or not
		dir := memDir(t)
		j := twoImages()
		j.batch(events.Written{Image: 1, Data: []byte{1}})
		common := j.mark
		fork := *j
		fork.now = j.now.clone()
		fork.claim(7)
		fork.batch(events.Written{Image: 1, Data: []byte{2}})
		j.claim(1)
		j.claim(1)
		r := create1(t, vfs.OS(), dir)
		if err := replay(r, j.messages); err != nil {
			t.Fatal(err)
		}
		if saved {
			mustCheckpoint(t, r)
		}
		if err := r.Rewind(common); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, tags, end := r.History(); len(tags) != 1 || !end.Same(common) || !r.NewJournal() {
				t.Fatalf("saved %v: %d tags, at %v, new journal %v", saved, len(tags), end.Position, r.NewJournal())
			}
			if _, seq := r.Committed(); seq != 0 {
				t.Errorf("saved %v: committed at message %d of a journal that is to be empty", saved, seq)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			r = reopen(t, vfs.OS(), dir)
		}
		if err := r.JournalReplaced(); err != nil {
			t.Fatal(err)
		}
		if err := replay(r, fork.messages[len(fork.messages)-2:]); err != nil {
			t.Fatal(err)
		}
		fork.now.check(t, r)
		mustCheckpoint(t, r)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r = reopen(t, vfs.OS(), dir)
		if _, tags, end := r.History(); len(tags) != 2 || !end.Same(fork.mark) || r.NewJournal() {
			t.Fatalf("saved %v: %d tags, at %v", saved, len(tags), end.Position)
		}
		fork.now.check(t, r)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Entries are never given up, and a mark that is none of this history is no way back.
func TestRewindLosesNothing(t *testing.T) {
	j := twoImages()
	created := j.mark
	j.claim(1)
	first := j.mark
	j.batch(events.Written{Image: 1, Data: []byte{1}})
	written := j.mark
	j.claim(1)
	r := create1(t, vfs.OS(), memDir(t))
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	other := written
	other.Chain++
	for name, to := range map[string]events.Mark{
		"entries behind it": created, "a claim that entries follow": first, "the end itself": j.mark, "another chain": other,
	} {
		if err := r.Rewind(to); fault.CodeOf(err) != fault.NotReady {
			t.Errorf("%s: %v", name, err)
		}
		if _, tags, end := r.History(); !end.Same(j.mark) || len(tags) != 3 || r.NewJournal() {
			t.Errorf("%s: %d tags, at %v", name, len(tags), end.Position)
		}
	}
	if err := r.Rewind(written); err != nil {
		t.Error(err)
	}
}

func TestChangedSince(t *testing.T) {
	j := twoImages()
	j.batch(events.Written{Image: 1, Data: []byte{1}}, events.Written{Image: 2, Offset: 8 << 10, Data: []byte{1}})
	middle := j.mark.Position
	j.batch(events.Written{Image: 1, Offset: 1, Data: []byte{2}}, events.Written{Image: 1, Offset: 3, Data: []byte{2}})
	j.batch(events.Zeroed{Image: 2, Offset: 16 << 10, Length: 9 << 10}) // two objects
	r := create1(t, vfs.OS(), memDir(t))
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	for since, want := range map[events.Position]uint64{0: 4, middle: 3, j.mark.Position: 0} {
		if got := r.ChangedSince(since); got != want {
			t.Errorf("%d objects changed behind %v, want %d", got, since, want)
		}
	}
}
