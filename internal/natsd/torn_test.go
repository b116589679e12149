package natsd

import (
	"bytes"
	"errors"
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
	s.Stop()
	return dir, tear(t, s)
}

// tear takes the end of the first block of a server's journal away: last is the message
// that was the last one there. The server must not run.
func tear(t *testing.T, s *Server) (last uint64) {
	t.Helper()
	blocks := s.files.stream(testStream)
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
	return last
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
	mustStayDamaged(t, dir, last)
}

// mustStayDamaged demands that nothing is put aside for the hole at message last.
func mustStayDamaged(t *testing.T, dir string, last uint64) {
	t.Helper()
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

// TestHoleInWhatAnotherModeSynced has a journal that a start in another mode has gone on
// with: what was noted before says nothing of its blocks, whether all of them were synced
// or none.
func TestHoleInWhatAnotherModeSynced(t *testing.T) {
	fallback := func(s *Server) { s.files.root = t.TempDir() } // the probe finds no message
	for _, c := range []struct {
		name    string
		mode    SyncMode
		prepare func(*Server)
	}{{"always", SyncAlways, nil}, {"never", SyncNever, nil}, {"fall-back to always", SyncFiles, fallback}} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			run := func(mode SyncMode, prepare func(*Server), use func(*Server, *client)) *Server {
				t.Helper()
				cfg := config(dir)
				cfg.Sync = mode
				if prepare == nil {
					prepare = func(*Server) {}
				}
				s, err := startWith(t.Context(), cfg, prepare)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Stop()
				use(s, connect(t, s))
				return s
			}
			run(SyncFiles, nil, func(s *Server, c *client) {
				c.publish(1)
				if err := s.Sync(t.Context(), testStream); err != nil {
					t.Fatal(err)
				}
			})
			s := run(c.mode, c.prepare, func(s *Server, c *client) {
				if s.SyncMode() == SyncFiles {
					t.Error("it syncs files after all")
				}
				c.publishBytes(2, 18<<20)
			})
			mustStayDamaged(t, dir, tear(t, s))
		})
	}
}

// TestNotesAreDroppedDurably: a power cut must not bring them back, nor may a start go on
// without knowing that.
func TestNotesAreDroppedDurably(t *testing.T) {
	cfg := config(t.TempDir())
	note := filepath.Join(cfg.Dir, promisedFolder, testStream)
	if err := (promises{file: note, fsync: syncFile}).note(1); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken disk")
	cfg.Sync = SyncNever
	cfg.Fsync = func(name string) error {
		if _, err := os.Stat(note); name != cfg.Dir || err == nil {
			t.Errorf("%s was synced; the note: %v", name, err)
		}
		return broken
	}
	if _, err := Start(t.Context(), cfg); !errors.Is(err, broken) {
		t.Errorf("the drop that was not synced: %v", err)
	}
	cfg.Fsync = nil
	start(t, cfg)
}

// TestNotesOfRemovedJournals go with the next start; those of the others stay.
func TestNotesOfRemovedJournals(t *testing.T) {
	cfg := config(t.TempDir())
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	connect(t, s).publish(1)
	if err := s.Sync(t.Context(), testStream); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	notes := filepath.Join(cfg.Dir, promisedFolder)
	if err := (promises{file: filepath.Join(notes, "JOURNAL_gone"), fsync: syncFile}).note(1); err != nil {
		t.Fatal(err)
	}
	start(t, cfg)
	left, err := os.ReadDir(notes)
	if err != nil || len(left) != 1 || left[0].Name() != testStream {
		t.Errorf("%v, %v", left, err)
	}
}
