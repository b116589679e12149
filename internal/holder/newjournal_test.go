package holder_test

import (
	"errors"
	"path/filepath"
	"testing"

	"tidemark/events"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
	"tidemark/internal/tail"
	"tidemark/internal/vfs"
)

// directories 143: a node that was fenced since it opened its copy does not drop the journal, which its
// successor writes by now; one that holds the directory does, once.
func TestFencedNodeDropsNoJournal(t *testing.T) {
	at := sitetest.Start(t, "east")
	s := events.Stream{Name: events.JournalStream(events.DirectoryName{Pool: "vms", Path: "/prod"}, fencedID), Subjects: []string{"tidemark.journal.east.x.>"}}
	log, err := at.Bus.OpenLog(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(t.Context(), "tidemark.journal.east.x.entries", []byte("its successor's"), 0); err != nil {
		t.Fatal(err)
	}
	copied, err := replica.Create(vfs.OS(), filepath.Join(t.TempDir(), "copy"), replica.Identity{Directory: fencedID, History: "h"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = copied.Close() }()
	if err := copied.TakePlace(1, ""); err != nil {
		t.Fatal(err)
	}
	held, next := tenureOf(at, "1", 3, nil), tenureOf(at, "2", 4, nil)
	if err := held.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	at.Fence(t, fencedID, 3)
	if _, err := held.OpenJournal(t.Context(), copied, s); !errors.Is(err, tail.ErrFenced) || !copied.NewJournal() {
		t.Errorf("a fenced node: %v", err)
	}
	if state, err := log.State(t.Context()); err != nil || state.Last != 1 {
		t.Errorf("the journal ends at %d, %v", state.Last, err)
	}
	for range 2 {
		log, err = next.OpenJournal(t.Context(), copied, s)
		if err != nil || copied.NewJournal() {
			t.Fatalf("its successor: %v", err)
		}
		state, err := log.State(t.Context())
		if err != nil || state.First <= state.Last && state.Last != 1 {
			t.Errorf("the new journal: %+v, %v", state, err)
		}
		if state.Last == 0 {
			_, err = log.Append(t.Context(), "tidemark.journal.east.x.entries", []byte("kept"), 0)
		}
		if err != nil {
			t.Error(err)
		}
	}
	if m, err := log.Get(t.Context(), 1); err != nil || string(m.Data) != "kept" {
		t.Errorf("the second opening left %q, %v", m.Data, err)
	}
}
