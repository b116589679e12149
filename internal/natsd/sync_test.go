package natsd

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
)

// disk stands in for what survives a power cut: a file is on it as it was when it was
// last synced.
type disk struct {
	t     testing.TB
	root  string // of the streams
	mu    sync.Mutex
	files map[string][]byte
	calls []string // what was synced, relative to the stream
	// during is called within each sync, after the content was taken.
	during func(name string)
}

// watch puts a disk under a server.
func watch(t testing.TB, s *Server) *disk {
	d := &disk{t: t, root: s.files.root, files: map[string][]byte{}}
	s.files.fsync = d.fsync
	return d
}

func (d *disk) fsync(name string) error {
	if err := syncFile(name); err != nil {
		return err
	}
	content, err := os.ReadFile(name)
	d.mu.Lock()
	rel, _ := filepath.Rel(d.root, name)
	d.calls = append(d.calls, rel)
	if err == nil {
		d.files[rel] = content
	}
	during := d.during
	d.mu.Unlock()
	if during != nil {
		during(rel)
	}
	return nil
}

// taken returns what was synced since the last call.
func (d *disk) taken() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	calls := d.calls
	d.calls = nil
	return calls
}

// powerCut writes what survives into a folder for a new server.
func (d *disk) powerCut() string {
	d.t.Helper()
	dir := d.t.TempDir()
	d.mu.Lock()
	defer d.mu.Unlock()
	for rel, content := range d.files {
		name := filepath.Join(dir, "jetstream", account, "streams", rel)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			d.t.Fatal(err)
		}
		if err := os.WriteFile(name, content, 0o644); err != nil {
			d.t.Fatal(err)
		}
	}
	return dir
}

func block(n string) string { return testStream + "/msgs/" + n + ".blk" }

// TestSyncFilesConformance is the contract with this version of the server, on which
// SyncFiles rests: what is acknowledged stands in a block file at once, blocks are
// numbered on end, only the newest one grows, and what Sync has synced is all that a
// server needs after a power cut.
func TestSyncFilesConformance(t *testing.T) {
	s := start(t, config(t.TempDir()))
	d := watch(t, s)
	c := connect(t, s)
	last := uint64(0)
	for range 5 {
		last = c.publishBytes(last+1, 7<<20)
		if err := s.files.stream(testStream).find(payload(last)); err != nil {
			t.Fatalf("message %d: %v", last, err)
		}
		if err := s.Sync(t.Context(), testStream); err != nil {
			t.Fatal(err)
		}
	}
	blocks, err := s.files.stream(testStream).list()
	if err != nil || len(blocks) < 4 {
		t.Fatalf("%d blocks hold 35 MiB, %v", len(blocks), err)
	}
	for _, n := range blocks {
		name := s.files.stream(testStream).path(n)
		content, err := os.ReadFile(name)
		rel, _ := filepath.Rel(d.root, name)
		if err != nil || !bytes.Equal(content, d.files[rel]) {
			t.Errorf("%s differs from what was synced (%v)", rel, err)
		}
	}
	for number := uint64(1); number <= last; number += 7 {
		if err := s.files.stream(testStream).find(payload(number)); err != nil {
			t.Fatalf("message %d: %v", number, err)
		}
	}
	c = connect(t, start(t, config(d.powerCut())))
	if got := c.last(); got != last {
		t.Fatalf("%d of %d messages survive the power cut", got, last)
	}
	c.mustHold(1, last)
}

// TestSyncCostsOneFsync proves that a sync touches the newest block only.
func TestSyncCostsOneFsync(t *testing.T) {
	s := start(t, config(t.TempDir()))
	d := watch(t, s)
	c := connect(t, s)
	sync := func() []string {
		t.Helper()
		if err := s.Sync(t.Context(), testStream); err != nil {
			t.Fatal(err)
		}
		return d.taken()
	}
	c.publish(1)
	first := sync()
	for _, want := range []string{block("1"), testStream + "/msgs", testStream, ".", testStream + "/meta.inf", testStream + "/meta.sum"} {
		if !strings.Contains(strings.Join(first, "\n")+"\n", want+"\n") {
			t.Errorf("the first sync leaves %s out: %q", want, first)
		}
	}
	c.publish(2)
	if diff := cmp.Diff([]string{block("1")}, sync()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	c.publishBytes(3, 18<<20)
	if diff := cmp.Diff([]string{block("1"), block("2"), block("3"), testStream + "/msgs", "../../../promised/" + testStream}, sync()); diff != "" {
		t.Errorf("over three blocks (-want +got)\n%s", diff)
	}
}

// TestBlockFilledDuringSync: messages that reach the newest block while it is being
// synced, and fill it, are covered by the next sync.
func TestBlockFilledDuringSync(t *testing.T) {
	s := start(t, config(t.TempDir()))
	d := watch(t, s)
	c := connect(t, s)
	last := c.publishBytes(1, 1<<20)
	if err := s.Sync(t.Context(), testStream); err != nil {
		t.Fatal(err)
	}
	d.during = func(string) {
		d.during = nil
		last = c.publishBytes(last+1, 9<<20)
	}
	for range 2 {
		if err := s.Sync(t.Context(), testStream); err != nil {
			t.Fatal(err)
		}
	}
	c = connect(t, start(t, config(d.powerCut())))
	if got := c.last(); got != last {
		t.Fatalf("%d of %d messages survive the power cut", got, last)
	}
	c.mustHold(1, last)
}

// TestTrimmed proves that the block in which a purge ended is synced, that syncing goes
// on behind it, and that a power cut brings back no hole.
func TestTrimmed(t *testing.T) {
	s := start(t, config(t.TempDir()))
	d := watch(t, s)
	c := connect(t, s)
	last := c.publishBytes(1, 30<<20)
	if err := s.Sync(t.Context(), testStream); err != nil {
		t.Fatal(err)
	}
	d.taken()
	cut := last * 2 / 3
	if err := c.stream.Purge(t.Context(), jetstream.WithPurgeSequence(cut)); err != nil {
		t.Fatal(err)
	}
	if err := s.Trimmed(t.Context(), testStream); err != nil {
		t.Fatal(err)
	}
	blocks, err := s.files.stream(testStream).list()
	if err != nil {
		t.Fatal(err)
	}
	oldest := s.files.stream(testStream).path(min(blocks[0], blocks[len(blocks)-1]))
	rel, _ := filepath.Rel(d.root, oldest)
	if diff := cmp.Diff([]string{rel, testStream + "/msgs"}, d.taken()); diff != "" {
		t.Errorf("synced after the purge (-want +got)\n%s", diff)
	}
	last = c.publishBytes(last+1, 1<<20)
	if err := s.Sync(t.Context(), testStream); err != nil {
		t.Fatal(err)
	}
	d.forgetRemoved()
	c = connect(t, start(t, config(d.powerCut())))
	if got := c.last(); got != last {
		t.Fatalf("message %d of %d is the last to survive", got, last)
	}
	c.mustHold(cut, last)
}

// forgetRemoved takes what was unlinked off the disk.
func (d *disk) forgetRemoved() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for rel := range d.files {
		if _, err := os.Stat(filepath.Join(d.root, rel)); err != nil {
			delete(d.files, rel)
		}
	}
}

// TestPurgeOfEverything: the server replaces all blocks by one.
func TestPurgeOfEverything(t *testing.T) {
	s := start(t, config(t.TempDir()))
	d := watch(t, s)
	c := connect(t, s)
	last := c.publishBytes(1, 18<<20)
	if err := s.Sync(t.Context(), testStream); err != nil {
		t.Fatal(err)
	}
	if err := c.stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := last + 1
	last = c.publishBytes(first, 18<<20)
	if err := s.Sync(t.Context(), testStream); err != nil {
		t.Fatal(err)
	}
	d.forgetRemoved()
	c = connect(t, start(t, config(d.powerCut())))
	c.mustHold(first, last)
}

// TestOldDisk copies the store while appending goes on, as a disk that stops at some
// moment would have it: everything up to the last sync is there.
func TestOldDisk(t *testing.T) {
	dir := t.TempDir()
	s := start(t, config(dir))
	c := connect(t, s)
	synced := c.publishBytes(1, 12<<20)
	if err := s.Sync(t.Context(), testStream); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan uint64)
	go func() {
		number := synced
		for {
			select {
			case <-stop:
				stopped <- number
				return
			default:
			}
			if _, err := c.js.Publish(t.Context(), testSubject, payload(number+1)); err != nil {
				t.Error(err)
				stopped <- number
				return
			}
			number++
		}
	}()
	old := t.TempDir()
	copyTree(t, old, dir)
	close(stop)
	end := <-stopped
	c = connect(t, start(t, config(old)))
	got := c.last()
	if got < synced || got > end {
		t.Fatalf("the copy ends at %d; %d was synced, %d was the end", got, synced, end)
	}
	c.mustHold(1, got)
}

// copyTree copies a folder that changes meanwhile: a file that vanishes is left out.
func copyTree(t *testing.T, dst, src string) {
	t.Helper()
	err := filepath.WalkDir(src, func(name string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil // it vanished
		}
		in, err := os.Open(name)
		if err != nil {
			return nil // it vanished
		}
		defer in.Close()
		rel, _ := filepath.Rel(src, name)
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dst, rel)), 0o755); err != nil {
			return err
		}
		out, err := os.Create(filepath.Join(dst, rel))
		if err != nil {
			return err
		}
		defer out.Close()
		_, err = io.Copy(out, in)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSyncReportsFailure: a sync that fails is never forgotten, not even when the disk
// seems to be well again: what was lost then is lost.
func TestSyncReportsFailure(t *testing.T) {
	s := start(t, config(t.TempDir()))
	c := connect(t, s)
	c.publish(1)
	broken := errors.New("broken disk")
	s.files.fsync = func(name string) error {
		if strings.HasSuffix(name, ".blk") {
			return broken
		}
		return syncFile(name)
	}
	for range 2 {
		if err := s.Sync(t.Context(), testStream); !errors.Is(err, broken) {
			t.Fatalf("got %v", err)
		}
	}
	s.files.fsync = syncFile
	if err := s.Sync(t.Context(), testStream); !errors.Is(err, broken) {
		t.Fatalf("the failure was forgotten: %v", err)
	}
}

// TestProbeFailureFallsBack: a store that does not keep the contract is run with every
// message synced.
func TestProbeFailureFallsBack(t *testing.T) {
	dir := t.TempDir()
	s, err := startWith(t.Context(), config(dir), func(s *Server) {
		s.files.root = filepath.Join(dir, "elsewhere")
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	if s.SyncMode() != SyncAlways {
		t.Errorf("mode %s", s.SyncMode())
	}
	connect(t, s).publish(1)
	if err := s.Sync(t.Context(), testStream); err != nil {
		t.Error(err)
	}
}
