package policy_test

import (
	"slices"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
)

// told returns what listeners were told of a directory, of some turns.
func (w *world) told(path string, of ...events.Lifecycle) []events.Lifecycle {
	w.t.Helper()
	var all []events.Lifecycle
	for _, f := range w.facts(events.StreamLifecycle) {
		if turn, ok := f.(*events.LifecycleNoted); ok && turn.Path == path && slices.Contains(of, turn.What) {
			all = append(all, turn.What)
		}
	}
	return all
}

// TestStalledIsTold: listeners are told that no node can hold a directory, once also if
// policy starts anew meanwhile, and that a node has it again.
func TestStalledIsTold(t *testing.T) {
	w := newWorld(t, "west")
	_, stop := w.startPolicy()
	w.startNotifier()
	w.mirroredPool("vms")
	name := dir("vms", "/db")
	awaits := func(want ...events.Lifecycle) {
		t.Helper()
		w.eventually("listeners are told", func() bool {
			return slices.Equal(w.told("/db", events.Unassigned, events.Assigned), want)
		})
	}
	call[api.Directory](w, api.MirrorAdd, name)
	awaits(events.Unassigned)
	stop()
	w.startPolicy()
	w.shows(name, "stalled", "")
	leaves := w.both("n1", "inc-1", newFakeHolder())
	awaits(events.Unassigned, events.Assigned)
	leaves()
	awaits(events.Unassigned, events.Assigned, events.Unassigned)
}
