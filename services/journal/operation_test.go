package journal

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
)

func snapRequest(image, snapshot string) api.SnapRequest {
	return api.SnapRequest{Image: image, Snapshot: snapshot}
}

// lastOf returns the start and the finish of the last operation in the log.
func lastOf(t *testing.T, all []logEntry) (start, finish logEntry) {
	t.Helper()
	for _, e := range all {
		switch e.Event.(type) {
		case events.OperationStarted:
			start, finish = e, logEntry{}
		case events.OperationFinished:
			finish = e
		}
	}
	return start, finish
}

// prepare makes an image with snapshots s1, safe and loose, the latter two protected, a
// clone of safe, and metadata, and writes over it.
func prepare(t *testing.T, s *Service, at *sitetest.Site, d *directory, was []byte) {
	t.Helper()
	create(t, d, "disk0", 8<<20)
	dev := open(t, s, "vms/prod/disk0")
	write(t, dev, was, 0, false)
	must[[]api.Snapshot](t, at, d, api.SnapCreate, snapRequest("disk0", "s1"))
	must[[]api.Snapshot](t, at, d, api.SnapCreate, snapRequest("disk0", "safe"))
	must[api.Snapshot](t, at, d, api.SnapProtect, snapRequest("disk0", "safe"))
	must[[]api.Snapshot](t, at, d, api.SnapCreate, snapRequest("disk0", "loose"))
	must[api.Snapshot](t, at, d, api.SnapProtect, snapRequest("disk0", "loose"))
	must[api.Image](t, at, d, api.ImageClone, api.ImageCloneRequest{Image: "disk0", Snapshot: "safe", NewName: "clone"})
	must[api.Nothing](t, at, d, api.MetadataSet, api.MetadataRequest{Image: "disk0", Key: "old", Value: "v"})
	write(t, dev, pattern(77, len(was)), 0, false)
	wantNil(t, dev.Close(t.Context()))
}

// Each operation leaves exactly a start and a finish, is shown at once and after a
// restart, and another one works then. The same holds for one whose finish was lost with
// its owner: the next one finishes it.
func TestOperations(t *testing.T) {
	t.Parallel()
	was := pattern(5, 200_000)
	for _, c := range operationCases(was) {
		t.Run(c.name, func(t *testing.T) {
			at := sitetest.Start(t, "east")
			s, stop := start(t, at)
			d := acquire(t, s)
			prepare(t, s, at, d, was)
			before := len(journalOf(t, at, d))
			must[any](t, at, d, c.request, c.body)
			all := journalOf(t, at, d)
			begun, ended := lastOf(t, all)
			finish, ok := ended.Event.(events.OperationFinished)
			if !ok || len(all) != before+2 || finish.Started != begun.position || finish.Failure != "" || len(ended.Before) == 0 {
				t.Errorf("%d entries more, %+v, %+v", len(all)-before, begun, ended)
			}
			c.check(t, s, at, d)
			stop()
			s, stop = start(t, at)
			d = acquire(t, s)
			c.check(t, s, at, d)
			must[any](t, at, d, c.live, c.again)
			stop()
		})
		t.Run("unfinished "+c.name, func(t *testing.T) { unfinished(t, c, was, false) })
	}
	t.Run("journal 126, demoted", func(t *testing.T) { unfinished(t, operationCases(was)[0], was, true) })
}

// unfinished has an owner start an operation and die, and the next one finish it
// (journal 126, journal 127: a start without its finish is executed, by the next life).
func unfinished(t *testing.T, c operationCase, was []byte, demote bool) {
	at := sitetest.Start(t, "east")
	s, stop := start(t, at)
	d := acquire(t, s)
	prepare(t, s, at, d, was)
	l := d.life
	var intent events.Event
	l.operations.allow = func(e events.Event) error {
		intent = e
		return fault.New(fault.Internal, "caught")
	}
	if _, err := call[any](t, at, d, c.request, c.body); err == nil || intent == nil {
		t.Fatalf("not caught: %v, %v", intent, err)
	}
	if _, err := l.writer.logSafe(events.Entry{Event: events.OperationStarted{Intent: intent}}); err != nil {
		t.Fatal(err)
	}
	if demote {
		release(t, s, d, true)
		all := journalOf(t, at, d)
		if _, ended := lastOf(t, all); ended.Event == nil {
			t.Error("demoted with an operation unfinished")
		}
		return
	}
	stop()
	s, _ = start(t, at)
	d = acquire(t, s)
	if left := d.life.replica.Unfinished(); len(left) != 0 {
		t.Errorf("unfinished: %+v", left)
	}
	c.check(t, s, at, d)
	must[any](t, at, d, c.live, c.again)
}

// journal 124, journal 125, journal 129: an operation that cannot be any more when its owner is back is
// finished with the error, and changes nothing. journal 128: a finish without a start
// changes nothing.
func TestUnfinishedOperationFails(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	s, stop := start(t, at)
	d := acquire(t, s)
	prepare(t, s, at, d, pattern(1, 4096))
	w := d.life.writer
	for _, e := range []events.Event{
		events.OperationStarted{Intent: events.SnapshotRemoved{Image: 1, Snapshot: 2}}, // it is protected
		events.OperationFinished{Started: events.At(1, 1)},
	} {
		if _, err := w.logSafe(events.Entry{Event: e}); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	s, _ = start(t, at)
	d = acquire(t, s)
	begun, ended := lastOf(t, journalOf(t, at, d))
	finish, _ := ended.Event.(events.OperationFinished)
	if finish.Started != begun.position || finish.Failure != string(fault.Busy) || len(ended.Before) != 0 {
		t.Errorf("%+v ended by %+v", begun, ended)
	}
	if left := d.life.replica.Unfinished(); len(left) != 0 {
		t.Errorf("unfinished: %+v", left)
	}
	if got := snapshotsOf(t, at, d, "disk0"); !got["safe"].Protected {
		t.Errorf("%+v", got)
	}
}

// A refused operation leaves nothing in the log; each refusal has its code.
func TestRefusedOperations(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	s, _ := start(t, at)
	d := acquire(t, s)
	prepare(t, s, at, d, pattern(1, 4096))
	dev := open(t, s, "vms/prod/disk0")
	snap := open(t, s, "vms/prod/disk0@s1")
	before := len(journalOf(t, at, d))
	for _, c := range []struct {
		request string
		body    any
		code    fault.Code
	}{
		{api.SnapCreate, snapRequest("disk0", "s1"), fault.Exists},
		{api.SnapCreate, snapRequest("disk0", "a/b"), fault.Usage},
		{api.SnapCreate, snapRequest("disk1", "s1"), fault.NotFound},
		{api.SnapRemove, snapRequest("disk0", "s1"), fault.Busy}, // open
		{api.SnapRemove, snapRequest("disk0", "safe"), fault.Busy},
		{api.SnapRemove, snapRequest("disk0", "s9"), fault.NotFound},
		{api.SnapRemove, snapRequest("", "s9"), fault.NotFound},
		{api.SnapUnprotect, snapRequest("disk0", "safe"), fault.Busy}, // has a clone
		{api.SnapRollback, snapRequest("disk0", "s1"), fault.Busy},    // open for writing
		{api.SnapRename, api.SnapRenameRequest{Image: "disk0", Snapshot: "s1", NewName: "safe"}, fault.Exists},
		{api.SnapLimit, api.SnapLimitRequest{Image: "disk0", Limit: 1}, fault.Usage},
		{api.ImageRemove, api.ImageRequest{Image: "disk0"}, fault.Busy},
		{api.ImageRename, api.ImageNameRequest{Image: "disk0", NewName: "clone"}, fault.Exists},
		{api.ImageLink, api.ImageNameRequest{Image: "disk0", NewName: ".."}, fault.Usage},
		{api.ImageClone, api.ImageCloneRequest{Image: "disk0", Snapshot: "s1", NewName: "c2"}, fault.Busy},
		{api.ImageFlatten, api.ImageRequest{Image: "disk0"}, fault.Usage},
		{api.ImageFeature, api.ImageFeatureRequest{Image: "disk0", Feature: "journaling"}, fault.Usage},
		{api.MetadataUnset, api.MetadataRequest{Image: "disk0", Key: "none"}, fault.NotFound},
		{api.MetadataSet, api.MetadataRequest{Image: "disk0", Key: ""}, fault.Usage},
		{api.ImageFill, api.ImageFillRequest{Image: "disk0", Offset: 0, Length: 5, Pattern: []byte("ab")}, fault.Usage},
		{api.ImageFill, api.ImageFillRequest{Image: "disk0", Offset: 8 << 20, Length: 2, Pattern: []byte("ab")}, fault.Usage},
		{api.ImageFill, api.ImageFillRequest{Image: "disk0", Offset: 1 << 63, Length: 1 << 63, Pattern: []byte("ab")}, fault.Usage},
		{api.ImageCompare, api.ImageCompareRequest{Image: "disk0", Compare: []byte("a"), Data: []byte("ab")}, fault.Usage},
		{api.ImageCompare, api.ImageCompareRequest{Image: "disk0", Compare: []byte("never there"), Data: []byte("11 bytes ab")}, fault.VersionMismatch},
		// journal 99: it carries both buffers, so half as much fits.
		{api.ImageCompare, api.ImageCompareRequest{Image: "disk0", Compare: make([]byte, events.ComparedMax+1), Data: make([]byte, events.ComparedMax+1)}, fault.Usage},
		{api.JournalDisconnect, api.JournalClientRequest{Client: "west.node"}, fault.NotFound},
		{api.JournalDisconnect, api.JournalClientRequest{}, fault.Usage},
	} {
		if _, err := call[any](t, at, d, c.request, c.body); fault.CodeOf(err) != c.code {
			t.Errorf("%s %+v: %v, not %s", c.request, c.body, err, c.code)
		}
	}
	if n := len(journalOf(t, at, d)) - before; n != 0 {
		t.Errorf("refused operations left %d entries", n)
	}
	wantNil(t, dev.Close(t.Context()), snap.Close(t.Context()))
	must[api.Nothing](t, at, d, api.SnapRollback, snapRequest("disk0", "s1"))
	must[api.Nothing](t, at, d, api.SnapRemove, snapRequest("disk0", "s1"))
}

// One operation at a time: those that wait beyond a bound are refused, not queued.
func TestOperationsWaitInABoundedLine(t *testing.T) {
	t.Parallel()
	at, _, d, _ := owning(t, 8<<20)
	l := d.life
	begun, release := make(chan struct{}), make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		_, err := l.operate(t.Context(), operation{isolation: sharing}, "disk0", func(image *replica.Image) (events.Event, error) {
			close(begun)
			<-release
			return events.MetadataSet{Image: image.ID(), Key: "k", Value: "first"}, nil
		})
		wantNil(t, err)
	})
	<-begun
	for i := range operationsWaiting - 1 {
		running.Go(func() {
			err := l.setMetadata(t.Context(), api.MetadataRequest{Image: "disk0", Key: fmt.Sprint(i)})
			if err != nil {
				t.Errorf("an operation that waited: %v", err)
			}
		})
	}
	sitetest.Eventually(t, "all wait", func() bool { return len(l.operations.line) == operationsWaiting })
	if err := l.setMetadata(t.Context(), api.MetadataRequest{Image: "disk0", Key: "k"}); fault.CodeOf(err) != fault.Busy {
		t.Errorf("one too many: %v", err)
	}
	close(release)
	running.Wait()
	if n := len(must[map[string]string](t, at, d, api.MetadataList, api.ImageRequest{Image: "disk0"})); n != operationsWaiting {
		t.Errorf("%d keys", n)
	}
}

// An operation that was refused because the log was full in its middle stays refused: what
// is written and flushed afterwards is not undone by a restart that finds only its start.
func TestRefusedOperationStaysRefused(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	cut := &breakAt{refused: func() {}}
	guarded(t, at, cut.guard, nil)
	s, stop := start(t, at)
	d := acquire(t, s)
	prepare(t, s, at, d, pattern(1, 4096))
	d.life.writer.fullTime = 0
	cut.arm(2)
	_, err := call[api.Nothing](t, at, d, api.SnapRollback, snapRequest("disk0", "s1"))
	if fault.CodeOf(err) != fault.NoSpace {
		t.Fatalf("rollback with a full log: %v", err)
	}
	cut.arm(0)
	want := pattern(2, 4096)
	write(t, open(t, s, "vms/prod/disk0"), want, 0, true)
	wantNil(t, d.life.tail.Drain(t.Context()))
	if left := d.life.replica.Unfinished(); len(left) != 0 {
		t.Errorf("a write went ahead of the end of %+v", left)
	}
	stop()
	s, _ = start(t, at)
	acquire(t, s)
	if got := read(t, open(t, s, "vms/prod/disk0"), 0, len(want)); !bytes.Equal(got, want) {
		t.Errorf("%d bytes of a flushed write are gone", differing(got, want))
	}
}

// An operation whose work is cut short by the end of its life is no failure: the next life
// finishes it.
func TestOperationThatEndsWithItsLifeIsLeftToTheNext(t *testing.T) {
	t.Parallel()
	at, _, d, stop := owning(t, 8<<20)
	begun := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		_, err := d.life.operations.run(context.Background(), operation{
			isolation: sharing,
			intend:    func() (events.Event, error) { return events.MetadataSet{Image: 1, Key: "k", Value: "v"}, nil },
			work: func(ctx context.Context) error {
				close(begun)
				<-ctx.Done()
				return ctx.Err()
			},
		})
		ended <- err
	}()
	<-begun
	stop()
	if err := <-ended; err == nil {
		t.Error("it was done")
	}
	for _, e := range journalOf(t, at, d) {
		if f, ok := e.Event.(events.OperationFinished); ok && f.Failure != "" {
			t.Errorf("the end of the life became a failure: %+v", f)
		}
	}
	s, _ := start(t, at)
	d = acquire(t, s)
	if left := d.life.replica.Unfinished(); len(left) != 0 {
		t.Errorf("unfinished: %+v", left)
	}
	if image, _ := d.life.replica.Lookup("disk0"); image.Metadata()["k"] != "v" {
		t.Error("what was started did not come true")
	}
}
