package policy

import (
	"testing"

	"tidemark/events"
)

// A service that fell silent is told of until it is back; one that left is not.
func TestSilentInstancesAreShown(t *testing.T) {
	s := newScript(t)
	removed := func(incarnation, reason string) *events.InstanceRemoved {
		return &events.InstanceRemoved{Node: "a", Service: "replayer", Incarnation: incarnation, Reason: reason, At: 7}
	}
	added := func(incarnation string) *events.InstanceAdded {
		return &events.InstanceAdded{Node: "a", Service: "replayer", Incarnation: incarnation}
	}
	s.fold(added("1"), removed("0", events.ReasonSilent))
	if got := s.state.SiteInfo(); len(got.Silent) != 0 {
		t.Errorf("a former incarnation is gone: %+v", got)
	}
	s.fold(removed("1", events.ReasonSilent))
	if got := s.state.SiteInfo(); len(got.Silent) != 1 || got.Silent[0].Node != "a" || got.Silent[0].Since != 7 || len(got.Instances) != 0 {
		t.Errorf("silent: %+v", got)
	}
	s.fold(added("2"))
	if got := s.state.SiteInfo(); len(got.Silent) != 0 || len(got.Instances) != 1 {
		t.Errorf("back: %+v", got)
	}
	s.fold(removed("2", "left"))
	if got := s.state.SiteInfo(); len(got.Silent) != 0 {
		t.Errorf("left: %+v", got)
	}
}

// directories 144: until a gone node is fenced, the map shows whom it waits to be rid of.
func TestFencingIsShown(t *testing.T) {
	s := held(t, tracked())
	s.fold(up("b", "2")...)
	s.fold(down("a", "1")...)
	if d := s.state.describe("d", s.now); d.State != "fencing" || d.MappedTo != "a" || d.InstanceID != "1" {
		t.Errorf("its node is gone: %+v", d)
	}
	s.step("fence")
	if d := s.state.describe("d", s.now); d.State != "mapping" || d.InstanceID != "" {
		t.Errorf("its node is fenced: %+v", d)
	}
	s.step("map")
	s.acknowledge(s.step("acquire"), "")
	if d := s.state.describe("d", s.now); d.State != "mapped" || d.MappedTo != "b" || d.InstanceID != "2" {
		t.Errorf("another has it: %+v", d)
	}
}
