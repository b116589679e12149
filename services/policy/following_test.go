package policy_test

import (
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

func TestMirrorSet(t *testing.T) {
	w, _ := startAll(t, "west")
	w.mirroredPool("vms")
	name := dir("vms", "/a")
	call[api.Directory](w, api.MirrorAdd, name)
	delay, target, limit, no := 90*time.Second, time.Minute, uint64(1<<20), -time.Second
	call[api.Directory](w, api.MirrorSet, api.MirrorSettings{DirectoryName: name, Delay: &delay})
	d := call[api.Directory](w, api.MirrorSet, api.MirrorSettings{DirectoryName: name, TargetRPO: &target, Limit: &limit})
	want := api.Following{Delay: 90, TargetRPO: 60, Limit: 1 << 20}
	if d.Following != want {
		t.Errorf("it follows with %+v, want %+v", d.Following, want)
	}
	call[api.Directory](w, api.MirrorSet, api.MirrorSettings{DirectoryName: name, Limit: &limit}) // as it is
	if n := w.count(events.StreamDirectories, "directory_configured"); n != 2 {
		t.Errorf("%d facts, want 2", n)
	}
	w.refused(fault.Usage, api.MirrorSet, api.MirrorSettings{DirectoryName: name, Delay: &no}, "-1s")
	w.refused(fault.Usage, api.MirrorSet, api.MirrorSettings{DirectoryName: name}, "nothing")
	w.refused(fault.NotFound, api.MirrorSet, api.MirrorSettings{DirectoryName: dir("vms", "/b"), Delay: &delay})
	w.refused(fault.NotFound, api.MirrorSet, api.MirrorSettings{DirectoryName: dir("none", "/a"), Delay: &delay})
}

// journal 244, 298: a resync is asked for once, whoever holds the copy; a primary, and what
// is not mirrored, refuses it.
func TestMirrorResync(t *testing.T) {
	w, h := startAll(t, "west")
	w.mirroredPool("vms")
	name := dir("vms", "/a")
	w.refused(fault.NotFound, api.MirrorResync, api.Resync{DirectoryName: name})
	call[api.Directory](w, api.MirrorAdd, name)
	w.awaitState(name, "mapped", events.Slave)
	if d := call[api.Directory](w, api.MirrorResync, api.Resync{DirectoryName: name}); d.State != "mapped" {
		t.Errorf("it was answered as %+v", d)
	}
	want := []string{"acquire /a slave -", "release /a slave", "acquire /a slave -"}
	if got := h.log(); len(got) != len(want) || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("the holder was asked %q, want %q", got, want)
	}

	call[api.Directory](w, api.MirrorPromote, api.Promote{DirectoryName: name})
	w.refused(fault.Busy, api.MirrorResync, api.Resync{DirectoryName: name}, "tidemark mirror demote vms/a")
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "local"})
	call[api.Directory](w, api.DirectoryCreate, dir("local", "/a"))
	w.refused(fault.NotReady, api.MirrorResync, api.Resync{DirectoryName: dir("local", "/a")}, "not mirrored")

	call[api.Directory](w, api.MirrorDemote, name)
	call[api.Nothing](w, api.PeerRemove, api.PeerRemoveRequest{Pool: "vms", Peer: "beef"})
	w.refused(fault.NotReady, api.MirrorResync, api.Resync{DirectoryName: name}, "no peer")
}

// journal 298: nobody holds it while it is asked for: it is told when it comes back.
func TestMirrorResyncIsAskedForAhead(t *testing.T) {
	w := newWorld(t, "west")
	w.startPolicy()
	w.startNotifier()
	w.mirroredPool("vms")
	name := dir("vms", "/a")
	call[api.Directory](w, api.MirrorAdd, name)
	if d := call[api.Directory](w, api.MirrorResync, api.Resync{DirectoryName: name, KeepRefused: true}); d.State != "stalled" {
		t.Errorf("it was answered as %+v", d)
	}
	w.both("node-1", "inc-1", newFakeHolder())
	w.awaitState(name, "mapped", events.Slave)
	for _, f := range w.facts(events.StreamNotifications) {
		if a, ok := f.(*events.AcquireRequested); ok && (a.Resync != 1 || !a.KeepRefused) {
			t.Errorf("it was asked %+v", a)
		}
	}
}
