package policy_test

import (
	"fmt"
	"slices"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
)

// about says which directory a fact of the machine is about, and what it says.
func about(fact events.Fact) (events.DirectoryID, string) {
	switch f := fact.(type) {
	case *events.DirectoryMapped:
		return f.Directory, fmt.Sprintf("mapped %d", f.Epoch)
	case *events.AcquireRequested:
		return f.Directory, fmt.Sprintf("acquire %d", f.Epoch)
	case *events.AcquireAcknowledged:
		return f.Directory, fmt.Sprintf("acquired %d", f.Epoch)
	case *events.ReleaseRequested:
		return f.Directory, fmt.Sprintf("release %d", f.Epoch)
	case *events.DirectoryForgotten:
		return f.Directory, "forgotten"
	}
	return "", ""
}

// messages returns what was published about a directory: of the map, then of the holders.
func (w *world) messages(id events.DirectoryID) []string {
	w.t.Helper()
	var all []string
	for _, f := range append(w.facts(events.StreamDirectories), w.facts(events.StreamNotifications)...) {
		if of, text := about(f); of == id {
			all = append(all, text)
		}
	}
	return all
}

func (w *world) demandMessages(id events.DirectoryID, want ...string) {
	w.t.Helper()
	if got := w.messages(id); !slices.Equal(got, want) {
		w.t.Errorf("about %s was said %q, want %q", id, got, want)
	}
}

// directories 94, 137: while an acknowledgement is held back, the map, its log and the message
// agree; a policy that starts meanwhile asks nothing again, and goes on with the answer.
func TestHeldBackAcquire(t *testing.T) {
	w := newWorld(t, "west")
	_, stop := w.startPolicy()
	w.startNotifier()
	h, held := newFakeHolder(), make(gate)
	h.set(held.acquire, nil)
	w.both("node-1", "inc-1", h)
	w.mirroredPool("vms")
	name := dir("vms", "/db")
	added := call[api.Directory](w, api.MirrorAdd, name)
	for range 2 {
		w.eventually("it is asked", func() bool { return len(h.log()) == 1 })
		if d := w.state(name); d.State != "mapping" || d.MappedTo != "node-1" || d.Epoch != 1 || d.Node != "" {
			t.Errorf("held back: %+v", d)
		}
		w.demandMessages(added.ID, "mapped 1", "acquire 1")
		stop()
		_, stop = w.startPolicy()
	}
	close(held)
	if d := w.awaitState(name, "mapped", events.Slave); d.Epoch != 1 || d.Node != "node-1" {
		t.Errorf("acknowledged: %+v", d)
	}
	w.demandMessages(added.ID, "mapped 1", "acquire 1", "acquired 1")
}

// directories 117: each of two directories is mapped once and asked for once.
func TestTwoAreAdded(t *testing.T) {
	w, h := startAll(t, "west")
	w.mirroredPool("vms")
	for i, path := range []string{"/a", "/b"} {
		d := call[api.Directory](w, api.MirrorAdd, dir("vms", path))
		w.awaitState(dir("vms", path), "mapped", events.Slave)
		w.demandMessages(d.ID, "mapped 1", "acquire 1", "acquired 1")
		if n := len(h.log()); n != i+1 {
			t.Errorf("%d requests came, want %d", n, i+1)
		}
	}
}

// directories 128: the site that is followed gives way to another one, with all directories
// removed and added again: each is released, removed, and mapped with epochs of its own.
func TestAnotherPeer(t *testing.T) {
	w, _ := startAll(t, "west")
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	var before uint64
	for _, site := range []string{"east", "north"} {
		w.follows(policySite(t, site), events.ReceiveOnly)
		call[api.Directory](w, api.MirrorAdd, dir("vms", "/db"))
		d := w.awaitState(dir("vms", "/db"), "mapped", events.Slave)
		if d.Epoch <= before {
			t.Errorf("of %s its epoch is %d, was %d", site, d.Epoch, before)
		}
		before = d.Epoch
		call[api.Nothing](w, api.PeerRemove, api.PeerRemoveRequest{Pool: "vms", Peer: site})
		call[api.Nothing](w, api.MirrorRemove, dir("vms", "/db"))
		w.demandMessages(d.ID, fmt.Sprintf("mapped %d", d.Epoch), "forgotten",
			fmt.Sprintf("acquire %d", d.Epoch), fmt.Sprintf("acquired %d", d.Epoch), fmt.Sprintf("release %d", d.Epoch))
	}
}
