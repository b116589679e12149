package e2e_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/nbdclient"
)

// storeKept keeps a copy of the NATS store of a stopped site; putBack puts the copy in the
// store's place, and returns what exchanges them again.
func storeKept(t *testing.T, s *site) (putBack func() (undo func())) {
	t.Helper()
	store, old := filepath.Join(s.data(), "nats"), filepath.Join(s.dir, "old")
	if err := os.CopyFS(old, os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	aside := filepath.Join(s.dir, "aside")
	exchange := func(from, to string) {
		if err := errors.Join(os.Rename(store, to), os.Rename(from, store)); err != nil {
			t.Fatal(err)
		}
	}
	return func() func() {
		exchange(old, aside)
		return func() { exchange(aside, old) }
	}
}

// writeSome writes and flushes.
func writeSome(t *testing.T, l *load, s *site) {
	t.Helper()
	w := l.start(s)
	w.awaitWrites(100)
	w.end()
	conn := s.dial(l.images[0])
	defer hangUp(conn)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := l.flush(ctx, conn); err != nil {
		t.Fatal(err)
	}
}

// awaitLost waits until a site has said of a directory that its journal lost messages.
func awaitLost(t *testing.T, s *site, dir string) {
	t.Helper()
	await(t, patience, s.name+" says that its journal lost its tail", func() error {
		m, err := s.mirrorNow(dir)
		if err != nil {
			return err
		}
		if err := unless(strings.Contains(m.Error, "lost"), "its error is %q in state %s", m.Error, m.State); err != nil {
			return err
		}
		if len(s.lifecycle("lost_tail")) == 0 {
			return errors.New("no event lost_tail")
		}
		r := s.run("status") // not while the directory is just being opened once more
		return unless(strings.Contains(r.stdout, "lost"), "the status does not speak of it: %s", r)
	})
}

// TestLostTail puts an older NATS store under a site, as a restored backup would be: the
// journal has lost writes that were acknowledged and flushed. The site starts, says what
// is lost and where, and serves no image of the directory; another works. With the right
// store everything is there again; rivals 13.
func TestLostTail(t *testing.T) {
	t.Parallel()
	s := startSite(t, "east")
	s.createImage("vms/prod/a", "16MiB")
	l := newLoad(t, 16<<20, "vms/prod/a")
	writeSome(t, l, s)
	s.terminate()
	putBack := storeKept(t, s)
	s.start()
	writeSome(t, l, s)
	s.terminate()
	undo := putBack()
	s.start()
	awaitLost(t, s, "vms/prod")
	refuseOpen(t, s, "vms/prod/a")
	start := time.Now()
	r := s.run("image", "create", "vms/prod/new", "--size", "8MiB", "--timeout", "60s")
	if took := time.Since(start); r.code == 0 || !contains(r.stderr, "lost") || took > 30*time.Second {
		t.Errorf("an image was created behind the loss, or the refusal, after %s, does not name it: %s", took, r)
	}
	s.createImage("vms/new/b", "8MiB")
	hangUp(s.dial("vms/new/b"))
	s.terminate()
	undo()
	s.start()
	l.demandComplete(s)
}

// TestLostTailWithinACheckpoint puts back a store that lacks only what was written since the
// last checkpoint, under a site that was killed: it is noticed all the same. What is lost
// can be given up, and the directory goes on; rivals 13.
func TestLostTailWithinACheckpoint(t *testing.T) {
	t.Parallel()
	s := startSite(t, "east")
	s.createImage("vms/prod/a", "16MiB")
	l := newLoad(t, 16<<20, "vms/prod/a")
	writeSome(t, l, s)
	s.terminate()
	putBack := storeKept(t, s)
	s.start()
	writeSome(t, l, s)
	s.kill()
	undo := putBack()
	s.start()
	awaitLost(t, s, "vms/prod")
	refuseOpen(t, s, "vms/prod/a")
	s.kill()
	undo()
	s.start()
	l.demandComplete(s)
	s.kill()
	putBack()
	s.start()
	awaitLost(t, s, "vms/prod")
	s.must("journal", "reset", "vms/prod")
	hangUp(s.dial("vms/prod/a"))
}

// refuseOpen fails the test if an image can be opened.
func refuseOpen(t *testing.T, s *site, image string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := nbdclient.Dial(ctx, "unix", s.socket, image)
	if err == nil {
		hangUp(conn)
		t.Errorf("%s is served at %s", image, s.name)
	}
}

// TestFollowerLostTail does the same to a follower.
func TestFollowerLostTail(t *testing.T) {
	t.Parallel()
	east, west := pair(t)
	east.createImage("vms/prod/a", "16MiB")
	west.must("mirror", "add", "vms/prod")
	l := newLoad(t, 16<<20, "vms/prod/a")
	writeSome(t, l, east)
	awaitLevel(t, east, west, "vms/prod")
	west.terminate()
	putBack := storeKept(t, west)
	west.start()
	writeSome(t, l, east)
	awaitLevel(t, east, west, "vms/prod")
	west.terminate()
	undo := putBack()
	west.start()
	awaitLost(t, west, "vms/prod")
	refuseOpen(t, west, "vms/prod/a")
	west.terminate()
	undo()
	west.start()
	awaitLevel(t, east, west, "vms/prod")
	l.demandComplete(west)
}
