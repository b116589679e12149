package journal

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
)

// heldFlatten is a flatten whose copying is held up after its first step.
type heldFlatten struct {
	resume func()
	ended  <-chan error
}

// holdFlatten starts a flatten of a clone, which is named clone and holds content, and
// returns while it copies.
func holdFlatten(t *testing.T, s *Service, at *sitetest.Site, d *directory, content []byte) heldFlatten {
	t.Helper()
	create(t, d, "disk0", uint64(len(content)))
	dev := open(t, s, "vms/prod/disk0")
	for off := 0; off < len(content); off += 1 << 20 {
		write(t, dev, content[off:off+1<<20], uint64(off), false)
	}
	wantNil(t, dev.Close(t.Context()))
	must[[]api.Snapshot](t, at, d, api.SnapCreate, snapRequest("disk0", "safe"))
	must[api.Snapshot](t, at, d, api.SnapProtect, snapRequest("disk0", "safe"))
	must[api.Image](t, at, d, api.ImageClone, api.ImageCloneRequest{Image: "disk0", Snapshot: "safe", NewName: "clone"})
	copies, held, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	h := heldFlatten{sync.OnceFunc(func() { close(held) }), ended}
	t.Cleanup(h.resume)
	told := false
	l := d.life
	go func() {
		ended <- l.flattenImage(context.Background(), api.ImageRequest{Image: "clone"}, func(api.Progress) {
			if !told {
				told = true
				close(copies)
				<-held
			}
		})
	}()
	select {
	case <-copies:
	case err := <-ended:
		t.Fatalf("it ended before it could be held: %v", err)
	}
	return h
}

// While a flatten copies, which may take hours, other operations and an import are carried
// out, and the operation is seen to be unfinished.
func TestOperationsGoOnWhileAFlattenCopies(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	s, stop := start(t, at)
	d := acquire(t, s)
	content := pattern(3, 12<<20)
	held := holdFlatten(t, s, at, d, content)
	must[[]api.Snapshot](t, at, d, api.SnapCreate, snapRequest("clone", "during"))
	must[api.Image](t, at, d, api.ImageRename, api.ImageNameRequest{Image: "clone", NewName: "own"})
	reply := must[api.JournalImportReply](t, at, d, api.JournalImport, api.JournalImportRequest{Entries: []api.ImportEntry{
		importOf(api.ImportEntry{Image: "disk0"}, events.Written{Image: 1, Data: []byte("abc")}),
	}})
	if reply.Refused != nil || reply.Executed != 1 {
		t.Errorf("an import meanwhile: %+v", reply)
	}
	left := d.life.replica.Unfinished()
	if want := (events.ImageFlattened{Image: 2}); len(left) != 1 || left[0].Intent != want {
		t.Errorf("unfinished while it copies: %+v", left)
	}
	held.resume()
	wantNil(t, <-held.ended)
	check := func() {
		t.Helper()
		if got := infoOf(t, at, d, "own"); got.Parent != "" {
			t.Errorf("its parent is still %s", got.Parent)
		}
		if left := d.life.replica.Unfinished(); len(left) != 0 {
			t.Errorf("unfinished: %+v", left)
		}
		dev := open(t, s, "vms/prod/own@during")
		if n := differing(read(t, dev, 0, len(content)), content); n != 0 {
			t.Errorf("%d bytes of the clone's snapshot differ", n)
		}
		wantNil(t, dev.Close(t.Context()))
	}
	check()
	stop()
	s, _ = start(t, at)
	d = acquire(t, s)
	check()
}

// A flatten whose image is removed while it copies fails, and so says the journal.
func TestFlattenOfAnImageThatIsRemovedMeanwhile(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	s, stop := start(t, at)
	d := acquire(t, s)
	held := holdFlatten(t, s, at, d, pattern(3, 12<<20))
	must[api.Nothing](t, at, d, api.ImageRemove, api.ImageRequest{Image: "clone"})
	held.resume()
	if err := <-held.ended; fault.CodeOf(err) != fault.NotFound {
		t.Errorf("the flatten of what was removed: %v", err)
	}
	sitetest.Eventually(t, "nothing is unfinished", func() bool { return len(d.life.replica.Unfinished()) == 0 })
	recorded := slices.ContainsFunc(journalOf(t, at, d), func(e logEntry) bool {
		f, ok := e.Event.(events.OperationFinished)
		return ok && f.Failure == string(fault.NotFound)
	})
	if !recorded {
		t.Error("the journal does not say that it failed")
	}
	stop()
	s, _ = start(t, at)
	d = acquire(t, s)
	must[api.Nothing](t, at, d, api.SnapUnprotect, snapRequest("disk0", "safe"))
}

// The finish of an operation is checked against what came between, also when that was
// answered before it was applied: it names the versions that are then the newest.
func TestFinishSeesWhatCameBetween(t *testing.T) {
	t.Parallel()
	at, _, d, _ := owning(t, 8<<20)
	l := d.life
	for i := range 20 {
		_, err := l.operations.run(t.Context(), operation{
			isolation: sharing,
			intend: func() (events.Event, error) {
				return events.MetadataSet{Image: 1, Key: "k", Value: fmt.Sprint(i)}, nil
			},
			work: func(ctx context.Context) error {
				_, err := l.createSnapshot(ctx, snapRequest("disk0", fmt.Sprint("s", i)))
				return err
			},
		})
		wantNil(t, err)
	}
	if d.life != l || l.over() {
		t.Error("the directory has failed meanwhile")
	}
	if got := must[map[string]string](t, at, d, api.MetadataList, api.ImageRequest{Image: "disk0"}); got["k"] != "19" {
		t.Errorf("%v", got)
	}
}
