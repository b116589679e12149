package policy

import "testing"

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
