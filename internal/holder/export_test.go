package holder_test

import (
	"bytes"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/sitetest"
)

// change applies facts to a copy behind what it holds.
func change(t *testing.T, c holder.Copy, facts ...events.Event) {
	t.Helper()
	for _, fact := range facts {
		before, err := c.Replica.Check(fact)
		if err != nil {
			t.Fatalf("%+v: %v", fact, err)
		}
		at := c.Replica.Applied()
		b := events.NewBatchBuilder(nil)
		b.Append(events.Entry{Before: before, Event: fact})
		msg, _ := b.Seal(at.Position.Tag(), at, 0, 3)
		apply(t, c.Replica, msg)
	}
}

// A copy that follows describes and exports snapshots and links, and the export of a
// snapshot ends with it.
func TestSnapshotsOfACopy(t *testing.T) {
	own, content := filled(t)
	site := sitetest.Start(t, "west")
	serve(t, site, append(own.Handlers(), own.Refusals()...))
	change(t, own,
		events.SnapshotsCreated{Name: "s1", First: 1, Images: []events.ImageID{1}},
		events.SnapshotProtected{Image: 1, Snapshot: 1},
		events.ImageCloned{Image: 2, Name: "clone", Parent: 1, Snapshot: 1},
		events.ImageLinked{Image: 1, Name: "also"},
		events.MetadataSet{Image: 1, Key: "k", Value: "v"},
		events.SnapshotsCreated{Name: "s2", First: 2, Images: []events.ImageID{1}},
	)
	all, err := ask[[]api.Snapshot](t, site, api.SnapList, api.ImageRequest{Image: "also"})
	if err != nil || len(all) != 2 || all[0].Name != "vms/prod/also@s1" || !all[0].Protected || all[0].Children != 1 || all[1].Snapshot != "s2" {
		t.Errorf("%+v, %v", all, err)
	}
	if all, err := ask[[]api.Snapshot](t, site, api.SnapList, api.ImageRequest{}); err != nil || len(all) != 2 {
		t.Errorf("of all images: %+v, %v", all, err)
	}
	if _, err := ask[[]api.Snapshot](t, site, api.SnapList, api.ImageRequest{Image: "none"}); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("of no image: %v", err)
	}
	if image, err := ask[api.Image](t, site, api.ImageInfo, api.ImageRequest{Image: "clone"}); err != nil || image.Parent != "disk@s1" || image.SnapshotLimit != 0 {
		t.Errorf("%+v, %v", image, err)
	}
	if keys, err := ask[map[string]string](t, site, api.MetadataList, api.ImageRequest{Image: "disk"}); err != nil || keys["k"] != "v" {
		t.Errorf("%v, %v", keys, err)
	}
	gone := make(chan struct{})
	name, err := events.ParseImage("vms/prod/disk@s2")
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	export, err := holder.OpenReadOnly(own.Replica, name, gone, func() { closed = true })
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(content))
	if err := export.ReadAt(t.Context(), got, 0); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the snapshot holds something else: %v", err)
	}
	select {
	case <-export.Ended():
		t.Error("the export has ended")
	default:
	}
	change(t, own, events.SnapshotRemoved{Image: 1, Snapshot: 2})
	<-export.Ended()
	if err := export.ReadAt(t.Context(), got, 0); err == nil {
		t.Error("a removed snapshot was read")
	}
	if err := export.Close(t.Context()); err != nil || !closed {
		t.Errorf("close: %v, told %v", err, closed)
	}
	if _, err := holder.OpenReadOnly(own.Replica, name, gone, func() {}); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("open what was removed: %v", err)
	}
}

// Whatever changes a directory is refused by a copy that follows.
func TestRefusals(t *testing.T) {
	own, _ := filled(t)
	site := sitetest.Start(t, "west")
	serve(t, site, own.Refusals())
	for _, request := range []string{
		api.ImageClone, api.ImageFlatten, api.ImageFill, api.ImageCompare, api.MetadataSet, api.MetadataUnset, api.SnapCreate,
		api.SnapRemove, api.SnapRename, api.SnapProtect, api.SnapUnprotect, api.SnapRollback, api.SnapLimit, api.ImageFeature,
		api.ImageRename, api.ImageLink, api.JournalReset, api.JournalDisconnect, api.JournalImport,
	} {
		if _, err := ask[api.Nothing](t, site, request, api.Nothing{}); fault.CodeOf(err) != fault.NotPrimary {
			t.Errorf("%s: %v", request, err)
		}
	}
}
