package policy_test

import (
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// A request to delete an old copy goes to the node that was left, and whoever asked is told what
// it says; a copy that stays is shown.
func TestDiscardGoesToTheNode(t *testing.T) {
	w := newWorld(t, "west")
	w.startPolicy()
	w.startNotifier()
	w.mirroredPool("vms")
	name := dir("vms", "/db")
	first, second := newFakeHolder(), newFakeHolder()
	stop := w.both("n1", "inc-1", first)
	id := call[api.Directory](w, api.MirrorAdd, name).ID
	w.shows(name, "mapped", "inc-1")
	w.both("n2", "inc-2", second)
	stop()
	w.shows(name, "mapped", "inc-2")
	w.both("n1", "inc-3", first)
	request := api.Discard{DirectoryName: name, Node: "n1"}
	w.publish(events.StreamPositions, &events.DirectoryMeasured{Directory: id, Client: "west.n1", Node: "n1", Bytes: 1 << 20, Complete: true})
	w.publish(events.StreamPositions, &events.DirectoryMeasured{Directory: id, Client: "west.n2", Node: "n2", Complete: true})
	w.eventually("the old copy is shown", func() bool {
		d := w.state(name)
		return len(d.OldCopies) == 1 && d.OldCopies[0].Node == "n1" && d.OldCopies[0].Lives && d.OldCopies[0].Bytes == 1<<20
	})
	w.refused(fault.Busy, api.MirrorDiscard, api.Discard{DirectoryName: name, Node: "n2"}, "the one in use")
	w.refused(fault.NotFound, api.MirrorDiscard, api.Discard{DirectoryName: name, Node: "n3"}, "no copy")
	w.refused(fault.Usage, api.MirrorDiscard, api.Discard{DirectoryName: name, Node: ""}, "node")
	var asked int
	first.set(nil, func(r *events.ReleaseRequested) (bool, error) {
		if asked++; !r.Discard || r.Remove || r.Demote {
			t.Errorf("the node was asked %+v", r)
		}
		if asked == 1 {
			return false, fault.New(fault.Busy, "conflict images are kept beside it")
		}
		return true, nil
	})
	w.refused(fault.Busy, api.MirrorDiscard, request, "stays: conflict images are kept")
	if d := w.shows(name, "mapped", "inc-2"); d.Error != "" || len(d.OldCopies) != 1 {
		t.Errorf("after a refusal: %+v", d)
	}
	if d := call[api.Directory](w, api.MirrorDiscard, request); len(d.OldCopies) != 0 || d.State != "mapped" || d.Node != "n2" || asked != 2 {
		t.Errorf("after %d requests: %+v", asked, d)
	}
	w.refused(fault.NotFound, api.MirrorDiscard, request, "no copy")
}
