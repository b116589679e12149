package policy_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// directories 1, 2, 5, 24, 26, 44.
func TestPools(t *testing.T) {
	w, _ := startAll(t, "east")
	for _, bad := range []string{"", "a/b", "..", "a@b", "a>", "*", " a", strings.Repeat("x", 256), "a\x00b"} {
		w.refused(fault.Usage, api.PoolCreate, api.Pool{Pool: bad}, "pool")
	}
	p := call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	if p != (api.Pool{Pool: "vms"}) {
		t.Errorf("created: %+v", p)
	}
	w.refused(fault.Exists, api.PoolCreate, api.Pool{Pool: "vms"}, "vms")
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "a b.c"})
	list := call[[]api.Pool](w, api.PoolList, api.Nothing{})
	if len(list) != 2 || list[0].Pool != "a b.c" || list[1].Pool != "vms" {
		t.Errorf("pools: %+v", list)
	}
	for range 2 {
		if p := call[api.Pool](w, api.MirrorEnable, api.Pool{Pool: "vms"}); !p.Mirroring {
			t.Errorf("enabled: %+v", p)
		}
	}
	w.publish(events.StreamPools, &events.PeerAdded{Pool: "vms", Peer: "beef", Site: "west", URL: "nats://127.0.0.1:1"})
	call[api.Directory](w, api.MirrorAdd, dir("vms", "/db"))
	w.refused(fault.Busy, api.PoolRemove, api.Pool{Pool: "vms"}, "1 directory")
	mapped := w.awaitState(dir("vms", "/db"), "mapped", events.Slave)
	for range 2 {
		if p := call[api.Pool](w, api.MirrorDisable, api.Pool{Pool: "vms"}); p.Mirroring || p.Peers != 1 || p.Directories != 1 {
			t.Errorf("disabled: %+v", p)
		}
	}
	w.refused(fault.NotReady, api.MirrorAdd, dir("vms", "/other"), "mirror enable vms")
	w.refused(fault.NotFound, api.PeerRemove, api.PeerRemoveRequest{Pool: "vms", Peer: "nobody"}, "nobody") // directories 10
	if p := call[api.Pool](w, api.MirrorEnable, api.Pool{Pool: "vms"}); !p.Mirroring || p.Peers != 1 || p.Directories != 1 {
		t.Errorf("enabled again: %+v", p)
	}
	if d := w.state(dir("vms", "/db")); !cmp.Equal(d, mapped) {
		t.Errorf("after off and on: %+v, was %+v", d, mapped)
	}
	call[api.Nothing](w, api.MirrorRemove, dir("vms", "/db"))
	call[api.Nothing](w, api.PoolRemove, api.Pool{Pool: "vms"})
	for _, subject := range []string{api.PoolRemove, api.MirrorEnable, api.MirrorDisable, api.PeerList} {
		w.refused(fault.NotFound, subject, api.Pool{Pool: "vms"}, "vms")
	}
	w.refused(fault.NotFound, api.DirectoryList, api.PoolFilter{Pool: "vms"}, "vms")
	w.refused(fault.Usage, api.PoolCreate, map[string]any{"pool": "x", "colour": "red"}, "colour")
	w.refused(fault.Usage, api.PoolCreate, []int{1})
}

// directories 28, 29, 30, 31, 32, 33-37, 41, 42, 45.
func TestDirectories(t *testing.T) {
	w, _ := startAll(t, "west")
	for _, subject := range []string{api.DirectoryCreate, api.DirectoryResolve, api.DirectoryRemove, api.MirrorAdd, api.MirrorRemove, api.MirrorDemote} {
		w.refused(fault.NotFound, subject, dir("vms", "/db"), "vms")
		for _, bad := range []string{"", "db", "./db", "/../etc", "/a/*", "/a\n", "/" + strings.Repeat("x", 2000)} {
			w.refused(fault.Usage, subject, dir("vms", bad))
		}
		w.refused(fault.Usage, subject, dir("..", "/db"))
	}
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	w.refused(fault.NotReady, api.MirrorAdd, dir("vms", "/db"), "mirror enable vms")
	call[api.Pool](w, api.MirrorEnable, api.Pool{Pool: "vms"})
	w.refused(fault.NotReady, api.MirrorAdd, dir("vms", "/db"), "import-token vms")
	// A peer that only receives is nobody to follow.
	w.publish(events.StreamPools, &events.PeerAdded{Pool: "vms", Peer: "beef", Site: "east", Direction: events.ReceiveOnly})
	w.refused(fault.NotReady, api.MirrorAdd, dir("vms", "/db"), "import-token vms")
	w.publish(events.StreamPools, &events.PeerAdded{Pool: "vms", Peer: "cafe", Site: "east", URL: "nats://127.0.0.1:1"})

	call[api.Directory](w, api.MirrorAdd, dir("vms", "/d1/d2/d3"))
	for _, same := range []string{"/d1/d2/././././././d3", "/d1/d2/././././././d3////", "/././././d1/./././d2/./././d3//////"} {
		w.refused(fault.Exists, api.MirrorAdd, dir("vms", same), "vms/d1/d2/d3")
		w.refused(fault.Exists, api.DirectoryCreate, dir("vms", same), "vms/d1/d2/d3")
	}
	for _, other := range []string{"/", "/d1", "/d10", "/d1/d2/d3/d4"} {
		call[api.Directory](w, api.MirrorAdd, dir("vms", other))
	}
	call[api.Directory](w, api.DirectoryCreate, dir("vms", "/own"))
	w.refused(fault.Exists, api.MirrorAdd, dir("vms", "/own"), "primary here")
	if list := call[[]api.Directory](w, api.DirectoryList, api.PoolFilter{Pool: "vms"}); len(list) != 6 || list[0].Path != "/" {
		t.Errorf("directories: %+v", list)
	}

	w.refused(fault.Busy, api.MirrorRemove, dir("vms", "/own"), "primary here")
	w.refused(fault.Busy, api.DirectoryRemove, dir("vms", "/d1"), "mirror remove vms/d1")
	call[api.Nothing](w, api.MirrorRemove, dir("vms", "/d1/."))
	w.refused(fault.NotFound, api.MirrorRemove, dir("vms", "/d1"), "vms/d1")
	call[api.Directory](w, api.MirrorAdd, dir("vms", "/d1"))
}

// A directory with images stays. Who cannot be asked is not taken for empty.
func TestDirectoryRemoveAsksTheHolder(t *testing.T) {
	w, h := startAll(t, "east")
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	name := dir("vms", "/db")
	d := call[api.Directory](w, api.DirectoryCreate, name)
	w.refused(fault.NotReady, api.DirectoryRemove, name, "images")
	images := make(chan []api.Image, 1)
	images <- []api.Image{{Name: "vms/db/disk0"}, {Name: "vms/db/disk1"}}
	stop, err := api.Serve(context.Background(), w.bus.Conn(), w.log,
		api.On(api.HolderSubject(d.ID, api.ImageList), func(context.Context, api.Nothing) ([]api.Image, error) {
			list := <-images
			images <- list
			return list, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	w.refused(fault.Busy, api.DirectoryRemove, name, "2 images")
	<-images
	images <- nil
	// One that is created between the question and the removal is not lost.
	h.set(nil, func(r *events.ReleaseRequested) (bool, error) {
		if !r.IfEmpty {
			t.Errorf("it may be removed with images: %+v", r)
		}
		return false, fault.New(fault.Busy, "it holds 1 images")
	})
	w.refused(fault.Busy, api.DirectoryRemove, name, "not removed", "it holds 1 images")
	w.awaitState(name, "mapped", events.Master)
	h.set(nil, nil)
	call[api.Nothing](w, api.DirectoryRemove, name)
	w.refused(fault.NotFound, api.DirectoryRemove, name)
	if got := h.log(); got[len(got)-1] != "release /db master remove" {
		t.Errorf("asked %q", got)
	}
	// The name is free; the new directory has nothing of the old one but its epochs.
	again := call[api.Directory](w, api.DirectoryCreate, name)
	if again.ID == d.ID || again.Epoch != d.Epoch+1 {
		t.Errorf("created again: %+v", again)
	}
}

// A removal that is held up is visible, and refuses everything else. directories 45, 46, 138.
func TestSlowRemoval(t *testing.T) {
	w, h := startAll(t, "west")
	w.mirroredPool("vms")
	name := dir("vms", "/db")
	call[api.Directory](w, api.MirrorAdd, name)
	w.awaitState(name, "mapped", events.Slave)
	hang := make(chan struct{})
	h.set(nil, func(*events.ReleaseRequested) (bool, error) { <-hang; return true, nil })
	removed := make(chan error, 1)
	go func() {
		_, err := try[api.Nothing](w, api.MirrorRemove, name)
		removed <- err
	}()
	w.awaitState(name, "unmapping", events.Slave)
	w.refused(fault.Busy, api.MirrorRemove, name, "being removed")
	w.refused(fault.Busy, api.MirrorAdd, name, "being removed")
	w.refused(fault.Busy, api.DirectoryCreate, name, "being removed")
	w.refused(fault.Busy, api.MirrorPromote, api.Promote{DirectoryName: name}, "being removed")
	w.refused(fault.Busy, api.PoolRemove, api.Pool{Pool: "vms"})
	close(hang)
	if err := <-removed; err != nil {
		t.Error(err)
	}
	call[api.Directory](w, api.MirrorAdd, name)
}
