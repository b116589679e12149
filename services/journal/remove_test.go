package journal

import (
	"errors"
	"testing"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// A directory is removed as empty only if its log says so after it was let go of: whether it
// is held or not, and however little of the log its copy has.
func TestOnlyWhatIsEmptyIsRemoved(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	s, stop := start(t, at)
	d := acquire(t, s)
	remove := func() error {
		t.Helper()
		_, quiesced, err := s.Release(t.Context(), &events.ReleaseRequested{
			Assignment: events.Assignment{Directory: d.id, Role: events.Master}, Pool: "vms", Path: "/prod", Remove: true, IfEmpty: true,
		})
		if (err == nil) != quiesced {
			t.Errorf("quiesced %v, %v", quiesced, err)
		}
		return err
	}
	create(t, d, "disk0", 8<<20)
	if err := remove(); fault.CodeOf(err) != fault.Busy {
		t.Fatalf("a directory with an image is removed: %v", err)
	}
	// Nobody holds it, and its copy is gone: the log has the image all the same.
	stop()
	if err := replica.Destroy(vfs.OS(), at.Node.ReplicaDir(d.id)); err != nil {
		t.Fatal(err)
	}
	s, _ = start(t, at)
	if err := remove(); fault.CodeOf(err) != fault.Busy {
		t.Fatalf("a directory with an image in its log is removed: %v", err)
	}
	d = acquire(t, s)
	if _, err := call[any](t, at, d, "image.remove", map[string]string{"image": "disk0"}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time the answer was lost
		if err := remove(); err != nil {
			t.Errorf("an empty directory is not removed: %v", err)
		}
	}
	if _, err := replica.Open(vfs.OS(), at.Node.ReplicaDir(d.id)); !errors.Is(err, replica.ErrNotFound) {
		t.Errorf("its copy is still there: %v", err)
	}
	if _, err := at.Bus.ExistingLog(t.Context(), events.JournalStream(d.name, d.id)); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("its journal is still there: %v", err)
	}
}
