package journal

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
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

// operationCase is one kind of operation.
type operationCase struct {
	name    string
	request string
	body    any
	check   func(t *testing.T, s *Service, at *sitetest.Site, d *directory)
	live    string // the request that undoes or repeats it after a restart
	again   any
}

func infoOf(t *testing.T, at *sitetest.Site, d *directory, image string) api.Image {
	t.Helper()
	return must[api.Image](t, at, d, api.ImageInfo, api.ImageRequest{Image: image})
}

func snapshotsOf(t *testing.T, at *sitetest.Site, d *directory, image string) map[string]api.Snapshot {
	t.Helper()
	all := map[string]api.Snapshot{}
	for _, s := range must[[]api.Snapshot](t, at, d, api.SnapList, api.ImageRequest{Image: image}) {
		all[s.Snapshot] = s
	}
	return all
}

func operationCases(was []byte) []operationCase {
	type env struct {
		t  *testing.T
		s  *Service
		at *sitetest.Site
		d  *directory
	}
	check := func(what string, ok func(env) bool) func(*testing.T, *Service, *sitetest.Site, *directory) {
		return func(t *testing.T, s *Service, at *sitetest.Site, d *directory) {
			t.Helper()
			if !ok(env{t, s, at, d}) {
				t.Errorf("not so: %s", what)
			}
		}
	}
	return []operationCase{
		{
			"journal 130, journal 174: snapshot create", api.SnapCreate, snapRequest("disk0", "s2"),
			check("s2 is there", func(e env) bool { return snapshotsOf(e.t, e.at, e.d, "disk0")["s2"].Position != 0 }),
			api.SnapCreate, snapRequest("disk0", "s3"),
		}, {
			"journal 133, journal 175: snapshot protect", api.SnapProtect, snapRequest("disk0", "s1"),
			check("s1 is protected", func(e env) bool { return snapshotsOf(e.t, e.at, e.d, "disk0")["s1"].Protected }),
			api.SnapUnprotect, snapRequest("disk0", "s1"),
		}, {
			"journal 134, journal 176: snapshot unprotect", api.SnapUnprotect, snapRequest("disk0", "loose"),
			check("loose is not protected", func(e env) bool { return !snapshotsOf(e.t, e.at, e.d, "disk0")["loose"].Protected }),
			api.SnapProtect, snapRequest("disk0", "loose"),
		}, {
			"journal 132, journal 177: snapshot rename", api.SnapRename, api.SnapRenameRequest{Image: "disk0", Snapshot: "s1", NewName: "old"},
			check("s1 is old", func(e env) bool { return snapshotsOf(e.t, e.at, e.d, "disk0")["old"].ID == 1 }),
			api.SnapRename, api.SnapRenameRequest{Image: "disk0", Snapshot: "old", NewName: "s1"},
		}, {
			"journal 135, journal 178: snapshot rollback", api.SnapRollback, snapRequest("disk0", "s1"),
			check("the content is that of s1", func(e env) bool {
				return bytes.Equal(read(e.t, open(e.t, e.s, "vms/prod/disk0"), 0, len(was)), was)
			}),
			api.SnapCreate, snapRequest("disk0", "s2"),
		}, {
			"journal 131, journal 179: snapshot remove", api.SnapRemove, snapRequest("disk0", "s1"),
			check("s1 is gone", func(e env) bool { return snapshotsOf(e.t, e.at, e.d, "disk0")["s1"].ID == 0 }),
			api.SnapCreate, snapRequest("disk0", "s1"),
		}, {
			"journal 136, journal 180: rename", api.ImageRename, api.ImageNameRequest{Image: "disk0", NewName: "disk9"},
			check("disk9 is there", func(e env) bool { return infoOf(e.t, e.at, e.d, "disk9").ID == 1 }),
			api.ImageRename, api.ImageNameRequest{Image: "disk9", NewName: "disk0"},
		}, {
			"journal 137, journal 181: resize", api.ImageResize, api.ImageResizeRequest{Image: "disk0", Size: 5 << 20, AllowShrink: true},
			check("the size is 5 MiB", func(e env) bool { return infoOf(e.t, e.at, e.d, "disk0").Size == 5<<20 }),
			api.ImageResize, api.ImageResizeRequest{Image: "disk0", Size: 9 << 20},
		}, {
			"journal 138, journal 182: flatten", api.ImageFlatten, api.ImageRequest{Image: "clone"},
			check("the clone has no parent", func(e env) bool { return infoOf(e.t, e.at, e.d, "clone").Parent == "" }),
			api.SnapUnprotect, snapRequest("disk0", "safe"),
		}, {
			"journal 107, journal 139, journal 183: features", api.ImageFeature, api.ImageFeatureRequest{Image: "disk0", Feature: events.FeatureReadOnly, Enabled: true},
			check("disk0 is read-only", func(e env) bool {
				return infoOf(e.t, e.at, e.d, "disk0").ReadOnly && open(e.t, e.s, "vms/prod/disk0").Info().ReadOnly
			}),
			api.ImageFeature, api.ImageFeatureRequest{Image: "disk0", Feature: events.FeatureReadOnly},
		}, {
			"journal 140, journal 184: metadata set", api.MetadataSet, api.MetadataRequest{Image: "disk0", Key: "k", Value: "v"},
			check("k is v", func(e env) bool {
				return must[map[string]string](e.t, e.at, e.d, api.MetadataList, api.ImageRequest{Image: "disk0"})["k"] == "v"
			}),
			api.MetadataSet, api.MetadataRequest{Image: "disk0", Key: "k", Value: "w"},
		}, {
			"journal 141, journal 185: metadata remove", api.MetadataUnset, api.MetadataRequest{Image: "disk0", Key: "old"},
			check("old is gone", func(e env) bool {
				return len(must[map[string]string](e.t, e.at, e.d, api.MetadataList, api.ImageRequest{Image: "disk0"})) == 0
			}),
			api.MetadataSet, api.MetadataRequest{Image: "disk0", Key: "old", Value: "w"},
		}, {
			"journal 142: snapshot limit", api.SnapLimit, api.SnapLimitRequest{Image: "disk0", Limit: 3},
			check("the limit is 3", func(e env) bool {
				_, err := call[[]api.Snapshot](e.t, e.at, e.d, api.SnapCreate, snapRequest("disk0", "s9"))
				return infoOf(e.t, e.at, e.d, "disk0").SnapshotLimit == 3 && err != nil
			}),
			api.SnapLimit, api.SnapLimitRequest{Image: "disk0"},
		}, {
			"link", api.ImageLink, api.ImageNameRequest{Image: "disk0", NewName: "also"},
			check("also is disk0", func(e env) bool { return infoOf(e.t, e.at, e.d, "also").ID == 1 }),
			api.ImageRemove, api.ImageRequest{Image: "disk0"},
		}, {
			"clone", api.ImageClone, api.ImageCloneRequest{Image: "disk0", Snapshot: "safe", NewName: "clone2"},
			check("clone2 stands on disk0@safe", func(e env) bool { return infoOf(e.t, e.at, e.d, "clone2").Parent == "disk0@safe" }),
			api.ImageRemove, api.ImageRequest{Image: "clone2"},
		},
	}
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

// A snapshot under load: no entry stands between its start and its finish, and it holds
// exactly what was acknowledged before it was asked for, and nothing that was sent after
// it was answered. A group snapshot is of one position for all images.
func TestSnapshotUnderLoad(t *testing.T) {
	at := sitetest.Start(t, "east")
	s, stop := start(t, at)
	d := acquire(t, s)
	const images, blocks = 2, 64
	var acknowledged [images]atomic.Uint64 // each image is filled with rising numbers, block by block
	var sent [images]atomic.Uint64
	var writers sync.WaitGroup
	ctx, halt := context.WithCancel(t.Context())
	for i := range images {
		create(t, d, fmt.Sprint("disk", i), 8<<20)
		dev := open(t, s, fmt.Sprint("vms/prod/disk", i))
		writers.Go(func() {
			done := make(chan error, 1)
			for n := uint64(1); ctx.Err() == nil; n++ {
				sent[i].Store(n)
				dev.Write(t.Context(), bytes.Repeat([]byte{byte(n), byte(n >> 8)}, 2048), (n%blocks)*4096, false, func(err error) { done <- err })
				if err := <-done; err != nil {
					t.Errorf("write: %v", err)
					return
				}
				acknowledged[i].Store(n)
			}
		})
	}
	type bounds struct{ least, most [images]uint64 }
	taken := map[string]bounds{}
	for i := range 10 {
		name := fmt.Sprint("s", i)
		var b bounds
		for k := range images {
			b.least[k] = acknowledged[k].Load()
		}
		made := must[[]api.Snapshot](t, at, d, api.SnapCreate, snapRequest("", name))
		for k := range images {
			b.most[k] = sent[k].Load()
		}
		taken[name] = b
		if len(made) != images || made[0].Position != made[1].Position || !made[0].Group {
			t.Fatalf("%+v", made)
		}
	}
	halt()
	writers.Wait()
	var before logEntry
	for _, e := range journalOf(t, at, d) {
		start, isSnapshot := before.Event.(events.OperationStarted)
		if isSnapshot {
			_, isSnapshot = start.Intent.(events.SnapshotsCreated)
		}
		if f, ok := e.Event.(events.OperationFinished); isSnapshot && (!ok || f.Started != before.position) {
			t.Errorf("%T at %v follows the start of a snapshot at %v", e.Event, e.position, before.position)
		}
		before = e
	}
	check := func() {
		for name, b := range taken {
			for k := range images {
				dev := open(t, s, fmt.Sprintf("vms/prod/disk%d@%s", k, name))
				checkPrefix(t, read(t, dev, 0, blocks*4096), b.least[k], b.most[k])
				wantNil(t, dev.Close(t.Context()))
			}
		}
	}
	check()
	stop()
	s, _ = start(t, at)
	d = acquire(t, s)
	check()
	if all := must[[]api.Snapshot](t, at, d, api.SnapList, api.ImageRequest{}); len(all) != 10*images {
		t.Errorf("%d snapshots", len(all))
	}
	must[api.Nothing](t, at, d, api.SnapRemove, snapRequest("", "s3"))
	if all := must[[]api.Snapshot](t, at, d, api.SnapList, api.ImageRequest{}); len(all) != 9*images {
		t.Errorf("%d snapshots after one was removed of all", len(all))
	}
}

// checkPrefix demands that an image holds the writes 1 to n, for an n within bounds.
func checkPrefix(t *testing.T, content []byte, least, most uint64) {
	t.Helper()
	newest := uint64(0)
	at := map[uint64]uint64{}
	for block := uint64(0); block*4096 < uint64(len(content)); block++ {
		p := content[block*4096:]
		n := uint64(p[0]) | uint64(p[1])<<8
		at[block] = n
		newest = max(newest, n)
	}
	if newest < least || newest > most {
		t.Errorf("the snapshot holds %d writes, not %d to %d", newest, least, most)
	}
	blocks := uint64(len(at))
	for block, n := range at {
		want := newest - (newest+blocks-block)%blocks
		if newest < blocks && block > newest {
			want = 0
		}
		if n != want {
			t.Errorf("block %d holds write %d, not %d of %d", block, n, want, newest)
		}
	}
}

// One operation at a time: those that wait beyond a bound are refused, not queued.
func TestOperationsWaitInABoundedLine(t *testing.T) {
	at := sitetest.Start(t, "east")
	s, _ := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
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

// journal 103, journal 119: only one of several comparisons with the same value succeeds, and one
// that fails leaves nothing in the log.
func TestCompareAndWrite(t *testing.T) {
	at := sitetest.Start(t, "east")
	s, _ := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
	const clients, rounds = 4, 25
	var won atomic.Uint64
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			dev := open(t, s, "vms/prod/disk0")
			for range rounds {
				was := read(t, dev, 512, 2)
				n := uint16(was[0]) | uint16(was[1])<<8 + 1
				_, err := call[api.Nothing](t, at, d, api.ImageCompare, api.ImageCompareRequest{
					Image: "disk0", Offset: 512, Compare: was, Data: []byte{byte(n), byte(n >> 8)},
				})
				switch fault.CodeOf(err) {
				case "":
					won.Add(1)
				case fault.VersionMismatch:
				default:
					t.Errorf("compare: %v", err)
				}
			}
		})
	}
	running.Wait()
	logged := uint64(0)
	for _, e := range journalOf(t, at, d) {
		if _, ok := e.Event.(events.CompareWritten); ok {
			logged++
		}
	}
	if logged != won.Load() || logged == 0 {
		t.Errorf("%d succeeded, %d are in the log", won.Load(), logged)
	}
}

// journal 118: a fill, also one of several entries, and of a pattern that no entry's end
// meets.
func TestFill(t *testing.T) {
	at := sitetest.Start(t, "east")
	s, stop := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 64<<20)
	unit := pattern(4, 4099)
	n := 40 << 20 / len(unit)
	must[api.Nothing](t, at, d, api.ImageFill, api.ImageFillRequest{Image: "disk0", Offset: 777, Length: uint64(n * len(unit)), Pattern: unit})
	want := bytes.Repeat(unit, n)
	if got := read(t, open(t, s, "vms/prod/disk0"), 777, len(want)); !bytes.Equal(got, want) {
		t.Errorf("%d bytes differ", differing(got, want))
	}
	stop()
	s, _ = start(t, at)
	acquire(t, s)
	if got := read(t, open(t, s, "vms/prod/disk0"), 777, len(want)); !bytes.Equal(got, want) {
		t.Errorf("after a restart %d bytes differ", differing(got, want))
	}
}
