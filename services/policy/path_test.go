package policy_test

import (
	"errors"
	"reflect"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// The whole path: intention, mapping, acquire, answer. directories 29, 95.
func TestDirectoryIsAcquired(t *testing.T) {
	w, h := startAll(t, "east")
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	d := call[api.Directory](w, api.DirectoryCreate, dir("vms", "/prod//db/"))
	if d.State != "mapped" || d.Role != events.Master || d.Node != "node-1" || d.Epoch != 1 || d.Name != "vms/prod/db" {
		t.Errorf("created: %+v", d)
	}
	if got, want := h.log(), []string{"acquire /prod/db master -"}; !reflect.DeepEqual(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
}

// A change of role, there and back.
func TestRoles(t *testing.T) {
	w, h := startAll(t, "east")
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	name := dir("vms", "/db")
	call[api.Directory](w, api.DirectoryCreate, name)
	w.refused(fault.Busy, api.MirrorPromote, api.Promote{DirectoryName: name}, "already primary")
	if d := call[api.Directory](w, api.MirrorDemote, name); d.Role != events.Slave || d.State != "mapped" || d.Epoch != 2 {
		t.Errorf("demoted: %+v", d)
	}
	w.refused(fault.NotPrimary, api.MirrorDemote, name)
	if d := call[api.Directory](w, api.MirrorPromote, api.Promote{DirectoryName: name}); d.Role != events.Master || d.Epoch != 3 {
		t.Errorf("promoted: %+v", d)
	}
	call[api.Directory](w, api.MirrorDemote, name)
	if d := call[api.Directory](w, api.MirrorPromote, api.Promote{DirectoryName: name, Force: true}); d.Role != events.Master || d.Epoch != 5 {
		t.Errorf("promoted by force: %+v", d)
	}
	want := []string{
		"acquire /db master -", "release /db master demote", "acquire /db slave -",
		"release /db slave", "acquire /db master promoted", "release /db master demote",
		"acquire /db slave -", "release /db slave", "acquire /db master forced",
	}
	if got := h.log(); !reflect.DeepEqual(got, want) {
		t.Errorf("asked %q\nwant  %q", got, want)
	}
}

var errSplit = fault.New(fault.SplitBrain, "entries that the other site never saw")

func TestRefusedPromotion(t *testing.T) {
	w, h := startAll(t, "west")
	w.mirroredPool("vms")
	name := dir("vms", "/db")
	call[api.Directory](w, api.MirrorAdd, name)
	w.awaitState(name, "mapped", events.Slave)
	h.set(func(r *events.AcquireRequested) error {
		if r.Role == events.Master {
			return errSplit
		}
		return nil
	}, nil)
	w.refused(fault.SplitBrain, api.MirrorPromote, api.Promote{DirectoryName: name}, "never saw")
	d := w.awaitState(name, "mapped", events.Slave)
	if d.Epoch != 3 || d.Error != "" {
		t.Errorf("after the refusal: %+v", d)
	}
	h.set(nil, nil)
	if d := call[api.Directory](w, api.MirrorPromote, api.Promote{DirectoryName: name, Force: true}); d.Role != events.Master {
		t.Errorf("promoted after all: %+v", d)
	}
}

func TestRefusedDemotion(t *testing.T) {
	w, h := startAll(t, "east")
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	name := dir("vms", "/db")
	call[api.Directory](w, api.DirectoryCreate, name)
	h.set(nil, func(*events.ReleaseRequested) (bool, error) { return false, fault.New(fault.Busy, "two clients write") })
	w.refused(fault.Busy, api.MirrorDemote, name, "two clients write")
	w.awaitState(name, "mapped", events.Master)
	w.refused(fault.Busy, api.MirrorDemote, name, "two clients write")
	w.awaitState(name, "mapped", events.Master)
	h.set(nil, nil)
	if d := call[api.Directory](w, api.MirrorDemote, name); d.Role != events.Slave {
		t.Errorf("demoted after all: %+v", d)
	}
}

// A failing acquire is tried again, and its error is shown meanwhile. directories 104, 121.
func TestFailingAcquire(t *testing.T) {
	w, h := startAll(t, "east")
	failures := 2
	h.set(func(*events.AcquireRequested) error {
		if failures--; failures >= 0 {
			return errors.New("the disk is slow today")
		}
		return nil
	}, nil)
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	name := dir("vms", "/")
	d := call[api.Directory](w, api.DirectoryCreate, name)
	if d.State != "mapping" || d.Error != "the disk is slow today" || d.Node != "" {
		t.Errorf("while it fails: %+v", d)
	}
	d = w.awaitState(name, "mapped", events.Master)
	if d.Error != "" || d.Epoch != 1 {
		t.Errorf("afterwards: %+v", d)
	}
	if got := len(h.log()); got != 3 {
		t.Errorf("asked %d times, want 3", got)
	}
}
