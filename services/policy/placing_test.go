package policy_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// The throttle and what is balanced are the operator's, and outlive policy.
func TestMirrorPlacement(t *testing.T) {
	w := newWorld(t, "west")
	_, stop := w.startPolicy()
	if p := call[api.Placement](w, api.MirrorPlacement, api.PlacementSettings{}); p != (api.Placement{Throttle: 300, By: events.BalanceCount}) {
		t.Errorf("at first: %+v", p)
	}
	throttle, by := 90*time.Second, events.BalanceSize
	call[api.Placement](w, api.MirrorPlacement, api.PlacementSettings{Throttle: &throttle})
	call[api.Placement](w, api.MirrorPlacement, api.PlacementSettings{By: &by})
	call[api.Placement](w, api.MirrorPlacement, api.PlacementSettings{By: &by}) // as it is
	if n := w.count(events.StreamPools, "placement_configured"); n != 2 {
		t.Errorf("%d facts", n)
	}
	stop()
	w.startPolicy()
	if p := call[api.Placement](w, api.MirrorPlacement, api.PlacementSettings{}); p != (api.Placement{Throttle: 90, By: events.BalanceSize}) {
		t.Errorf("after a restart: %+v", p)
	}
	long, what := 400*24*time.Hour, events.Balance("luck")
	w.refused(fault.Usage, api.MirrorPlacement, api.PlacementSettings{Throttle: &long}, "from 0s to")
	w.refused(fault.Usage, api.MirrorPlacement, api.PlacementSettings{By: &what}, "luck")
}

// directories 111, 123: a node joins, and when the throttle ends the surplus goes to it by
// itself: mapped, let go of, acquired, in this order.
func TestRebalance(t *testing.T) {
	w := newWorld(t, "west")
	w.startPolicy()
	w.startNotifier()
	w.mirroredPool("vms")
	throttle := 2 * time.Second
	call[api.Placement](w, api.MirrorPlacement, api.PlacementSettings{Throttle: &throttle})
	a, b := newFakeHolder(), newFakeHolder()
	w.both("a", "1", a)
	paths := []string{"/0", "/1", "/2", "/3", "/4"}
	for _, path := range paths {
		call[api.Directory](w, api.MirrorAdd, dir("vms", path))
	}
	for _, path := range paths {
		w.awaitState(dir("vms", path), "mapped", events.Slave)
	}
	w.both("b", "1", b)
	w.eventually("b is known", func() bool { return w.count(events.StreamInstances, "instance_added") == 4 })
	w.eventually("two have moved", func() bool { return len(b.log()) == 2 })
	moved := map[events.DirectoryID][]string{}
	w.eventually("they are held", func() bool {
		held := 0
		for _, path := range paths {
			if d := w.state(dir("vms", path)); d.State == "mapped" && d.Node == "b" {
				moved[d.ID], held = nil, held+1
			}
		}
		return held == 2
	})
	var mapped events.Instant
	for _, f := range w.facts(events.StreamDirectories) {
		if m, ok := f.(*events.DirectoryMapped); ok && m.Epoch == 1 {
			mapped = max(mapped, m.At)
		}
		if m, ok := f.(*events.DirectoryMapped); ok && m.Epoch == 2 && m.At.Sub(mapped) < throttle-time.Second {
			t.Errorf("%s moved %s after the last was mapped", m.Directory, m.At.Sub(mapped))
		}
	}
	for _, f := range w.facts(events.StreamNotifications) {
		if r, ok := f.(*events.AcquireRequested); ok {
			moved[r.Directory] = append(moved[r.Directory], "acquire "+r.Node)
		}
		if r, ok := f.(*events.ReleaseAcknowledged); ok && r.Quiesced {
			moved[r.Directory] = append(moved[r.Directory], "released "+r.Node)
		}
	}
	var ways []string
	for _, steps := range moved {
		ways = append(ways, steps[len(steps)-1])
		if len(steps) > 1 && !reflect.DeepEqual(steps, []string{"acquire a", "released a", "acquire b"}) {
			t.Errorf("the way of one: %q", steps)
		}
	}
	slices.Sort(ways)
	if want := []string{"acquire a", "acquire a", "acquire a", "acquire b", "acquire b"}; !slices.Equal(ways, want) {
		t.Errorf("they end as %q", ways)
	}
}
