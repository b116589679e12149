package natsd

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// tornStore returns a store whose journal has three blocks, of which the end of the first
// was lost: last is the message that was the last one there. sync is called before.
func tornStore(t *testing.T, sync func(s *Server, c *client)) (dir string, last uint64) {
	t.Helper()
	dir = t.TempDir()
	s, err := Start(t.Context(), config(dir))
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, s)
	c.publish(1)
	if err := s.Sync(t.Context(), testStream); err != nil {
		t.Fatal(err)
	}
	c.publishBytes(2, 18<<20)
	if sync != nil {
		sync(s, c)
	}
	blocks := s.files.stream(testStream)
	s.Stop()
	first := blocks.path(1)
	content, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	for last = 1; bytes.Contains(content, payload(last+1)); last++ {
	}
	if err := os.Truncate(first, int64(len(content)-len(payload(last))/2)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(blocks.dir, "index.db")); err != nil {
		t.Fatal(err)
	}
	return dir, last
}

// TestTornTail loses the end of an unsynced block under a later one: the journal ends
// there, goes on there, and what lay behind is put aside.
func TestTornTail(t *testing.T) {
	dir, last := tornStore(t, nil)
	s := start(t, config(dir))
	c := connect(t, s)
	if got := c.last(); got != last-1 {
		t.Fatalf("the journal ends at message %d, want %d", got, last-1)
	}
	c.mustHold(1, last-1)
	c.publishBytes(last, 10<<20)
	if aside, err := filepath.Glob(filepath.Join(dir, tornFolder, "*", "*.blk")); err != nil || len(aside) == 0 {
		t.Errorf("%d blocks were put aside, %v", len(aside), err)
	}
}

// TestHoleInWhatWasPromised has the same hole in a journal that had been synced to its
// end: it is damage, and nothing is put aside for it.
func TestHoleInWhatWasPromised(t *testing.T) {
	dir, last := tornStore(t, func(s *Server, _ *client) {
		if err := s.Sync(t.Context(), testStream); err != nil {
			t.Fatal(err)
		}
	})
	s := start(t, config(dir))
	c := connect(t, s)
	info, err := c.stream.Info(t.Context(), jetstream.WithDeletedDetails(true))
	if err != nil {
		t.Fatal(err)
	}
	if info.State.LastSeq <= last || info.State.NumDeleted == 0 {
		t.Errorf("the journal ends at %d and lacks %v: message %d is damaged", info.State.LastSeq, info.State.Deleted, last)
	}
	if _, err := os.Stat(filepath.Join(dir, tornFolder)); err == nil {
		t.Error("blocks that were promised were put aside")
	}
}
