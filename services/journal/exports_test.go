package journal

import (
	"bytes"
	"slices"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/nbd"
	"tidemark/internal/sitetest"
)

// Exports are images under all their names, and snapshots, read-only.
func TestExports(t *testing.T) {
	t.Parallel()
	at, s, d, _ := owning(t, 8<<20)
	dev := open(t, s, "vms/prod/disk0")
	was, now := pattern(1, 10_000), pattern(2, 10_000)
	write(t, dev, was, 100, false)
	must[[]api.Snapshot](t, at, d, api.SnapCreate, snapRequest("disk0", "s1"))
	snap := open(t, s, "vms/prod/disk0@s1") // though it may not be applied yet
	write(t, dev, now, 100, false)
	must[api.Image](t, at, d, api.ImageLink, api.ImageNameRequest{Image: "disk0", NewName: "also"})
	names, err := s.Exports().List(t.Context())
	if want := []string{"vms/prod/also", "vms/prod/disk0", "vms/prod/disk0@s1"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%v, %v", names, err)
	}
	if info := snap.Info(); !info.ReadOnly || info.Size != 8<<20 || info.Name != "vms/prod/disk0@s1" {
		t.Errorf("%+v", info)
	}
	if !bytes.Equal(read(t, snap, 100, len(was)), was) || !bytes.Equal(read(t, open(t, s, "vms/prod/also"), 100, len(now)), now) {
		t.Error("snapshot or image hold something else")
	}
	if err := <-later(t, snap, now, 0, false); fault.CodeOf(err) != fault.ReadOnly {
		t.Errorf("a write to a snapshot: %v", err)
	}
	done := make(chan error, 1)
	snap.Zero(t.Context(), nbd.ZeroRequest{Offset: 0, Length: 10}, func(err error) { done <- err })
	if err := <-done; fault.CodeOf(err) != fault.ReadOnly {
		t.Errorf("zeroing a snapshot: %v", err)
	}
	flush(t, snap)
	for _, name := range []string{"vms/prod/disk0@none", "vms/prod/none@s1", "vms/prod/none", "vms/else/disk0"} {
		if _, err := s.Exports().Open(t.Context(), name); fault.CodeOf(err) != fault.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Removing one of two names leaves the image to those who have it open.
	must[api.Nothing](t, at, d, api.ImageRemove, api.ImageRequest{Image: "disk0"})
	write(t, dev, was, 100, true)
	if !bytes.Equal(read(t, open(t, s, "vms/prod/also"), 100, len(was)), was) {
		t.Error("the image under its other name holds something else")
	}
}

// journal 107: an image with the feature read-only takes no write, from a session that was
// open before either, until it is turned off.
func TestReadOnlyFeature(t *testing.T) {
	t.Parallel()
	at, s, d, _ := owning(t, 8<<20)
	dev := open(t, s, "vms/prod/disk0")
	write(t, dev, pattern(1, 4096), 0, false)
	set := func(on bool) {
		must[api.Image](t, at, d, api.ImageFeature, api.ImageFeatureRequest{Image: "disk0", Feature: events.FeatureReadOnly, Enabled: on})
	}
	set(true)
	if err := <-later(t, dev, pattern(2, 4096), 0, false); fault.CodeOf(err) != fault.ReadOnly {
		t.Errorf("a write: %v", err)
	}
	if err := <-later(t, dev, pattern(2, 1<<20), 0, false); fault.CodeOf(err) != fault.ReadOnly {
		t.Errorf("a write of several entries: %v", err)
	}
	if _, err := call[any](t, at, d, api.ImageFill, api.ImageFillRequest{Image: "disk0", Length: 4, Pattern: []byte("ab")}); fault.CodeOf(err) != fault.ReadOnly {
		t.Errorf("a fill: %v", err)
	}
	if info := open(t, s, "vms/prod/disk0").Info(); !info.ReadOnly {
		t.Errorf("%+v", info)
	}
	set(false)
	write(t, dev, pattern(2, 4096), 0, true)
	if !bytes.Equal(read(t, dev, 0, 4096), pattern(2, 4096)) {
		t.Error("the write is not read back")
	}
}

// An operation whose finish a full log refuses is answered with that, and finished with
// that error once there is room: it has changed nothing, and the next one and writes work
// (journal 167).
func TestFullLogInTheMiddleOfAnOperation(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	cut := &breakAt{refused: func() {}}
	guarded(t, at, cut.guard, nil)
	s, _ := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
	d.life.writer.fullTime = 0
	for _, n := range []int64{1, 2} { // its start, its finish
		before := len(journalOf(t, at, d))
		cut.arm(n)
		_, err := call[any](t, at, d, api.ImageResize, api.ImageResizeRequest{Image: "disk0", Size: 9 << 20})
		if fault.CodeOf(err) != fault.NoSpace {
			t.Errorf("message %d is refused: %v", n, err)
		}
		cut.arm(0)
		want := 2 * int(n-1)
		sitetest.Eventually(t, "a started operation is finished", func() bool { return len(journalOf(t, at, d)) == before+want })
		sitetest.Eventually(t, "none is unfinished", func() bool { return len(d.life.replica.Unfinished()) == 0 })
		if got := infoOf(t, at, d, "disk0"); got.Size != 8<<20 {
			t.Errorf("it has %d bytes", got.Size)
		}
	}
	_, ended := lastOf(t, journalOf(t, at, d))
	if f, _ := ended.Event.(events.OperationFinished); f.Failure != string(fault.NoSpace) {
		t.Errorf("%+v", ended)
	}
	must[api.Image](t, at, d, api.ImageResize, api.ImageResizeRequest{Image: "disk0", Size: 9 << 20})
	write(t, open(t, s, "vms/prod/disk0"), pattern(1, 4096), 8<<20, true)
}
