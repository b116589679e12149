package policy_test

import (
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
)

// gate holds a fake holder's answers back until it is opened.
type gate chan struct{}

func (g gate) acquire(*events.AcquireRequested) error         { <-g; return nil }
func (g gate) release(*events.ReleaseRequested) (bool, error) { <-g; return true, nil }

// shows asserts what the map says of a directory: of which instance, and since when.
func (w *world) shows(name events.DirectoryName, state, instance string) api.Directory {
	w.t.Helper()
	var d api.Directory
	w.eventually(name.String()+" is "+state+" at "+instance, func() bool {
		d = w.state(name)
		return d.State == state && d.InstanceID == instance
	})
	if age := float64(time.Now().UnixMilli())/1000 - float64(d.LastShuffled); (instance == "") != (d.LastShuffled == 0) || instance != "" && (age < -1 || age > 60) {
		w.t.Errorf("%s as %s was mapped at %v, %vs ago", name, state, d.LastShuffled, age)
	}
	if (state == "stalled") != (d.Reason != "") {
		w.t.Errorf("%s as %s has the reason %q", name, state, d.Reason)
	}
	return d
}

// directories 144: each state of the map is shown while it lasts, with whom it is about.
func TestEveryStateOfTheMap(t *testing.T) {
	w := newWorld(t, "west")
	w.startPolicy()
	w.startNotifier()
	w.mirroredPool("vms")
	name := dir("vms", "/db")
	call[api.Directory](w, api.MirrorAdd, name)
	if d := w.shows(name, "stalled", ""); d.Reason != "no node runs the replayer service" || d.MappedTo != "" {
		t.Errorf("stalled: %+v", d)
	}

	h, first := newFakeHolder(), make(gate)
	h.set(first.acquire, nil)
	stop := w.both("n1", "inc-1", h)
	w.eventually("it was asked", func() bool { return len(h.log()) == 1 })
	if d := w.shows(name, "mapping", ""); d.MappedTo != "n1" || d.Node != "" {
		t.Errorf("mapping: %+v", d)
	}
	close(first)
	mapped := w.shows(name, "mapped", "inc-1")

	again := make(gate)
	h.set(again.acquire, nil)
	stop()
	stalled := w.shows(name, "stalled", "")
	if stalled.MappedTo != "n1" {
		t.Errorf("stalled: %+v", stalled)
	}
	w.both("n1", "inc-2", h)
	resolving := w.shows(name, "resolving", "inc-2")
	if resolving.LastShuffled != mapped.LastShuffled || resolving.Node != "" {
		t.Errorf("resolving %+v, was mapped as %+v", resolving, mapped)
	}
	close(again)
	mapped = w.shows(name, "mapped", "inc-2")

	letGo := make(gate)
	h.set(nil, letGo.release)
	promoted := make(chan error, 1)
	go func() {
		_, err := try[api.Directory](w, api.MirrorPromote, api.Promote{DirectoryName: name})
		promoted <- err
	}()
	w.shows(name, "shuffling", "inc-2")
	close(letGo)
	if err := <-promoted; err != nil {
		t.Fatal(err)
	}
	if d := w.shows(name, "mapped", "inc-2"); d.LastShuffled <= mapped.LastShuffled || d.Epoch != mapped.Epoch+1 {
		t.Errorf("promoted: %+v, was %+v", d, mapped)
	}
	call[api.Directory](w, api.MirrorDemote, name)

	removing, removed := make(gate), make(chan error, 1)
	h.set(nil, removing.release)
	go func() {
		_, err := try[api.Nothing](w, api.MirrorRemove, name)
		removed <- err
	}()
	w.shows(name, "unmapping", "inc-2")
	close(removing)
	if err := <-removed; err != nil {
		t.Fatal(err)
	}
	w.refused("not_found", api.DirectoryResolve, name)
}
