package policy

import (
	"testing"

	"tidemark/events"
	"tidemark/internal/fault"
)

// A replica that is being filled is not moved: it would begin again.
func TestIncompleteCopiesStay(t *testing.T) {
	f := newFleet(t, "a")
	f.track("p", 0, 4)
	f.settle()
	measure := func(complete bool) {
		for id := range f.state.Directories {
			f.publish(events.StreamPositions, &events.DirectoryMeasured{Directory: id, Node: "a", Complete: complete, At: f.now})
		}
	}
	measure(false)
	f.join("b")
	f.pass(2 * DefaultThrottle)
	if f.moves != 0 {
		t.Errorf("%d moved", f.moves)
	}
	measure(true)
	f.settle()
	if f.moves != 2 {
		t.Errorf("%d moved when they were complete", f.moves)
	}
}

// A node that a replica has left keeps its copy, and deletes it when the directory is removed:
// at once if it lives, else when it is back.
func TestCopiesLeftBehind(t *testing.T) {
	for _, dead := range []bool{false, true} {
		s := held(t, tracked())
		s.fold(up("b", "1")...)
		s.fold(&events.DirectoryMapped{Directory: "d", Pool: "p", Node: "b", Role: events.Slave, Epoch: 2})
		s.acknowledge(s.step("superseded holder"), "")
		acquire := s.step("acquire").(*events.AcquireRequested)
		if acquire.Node != "b" || !acquire.Elsewhere {
			t.Errorf("acquire %+v", acquire)
		}
		s.acknowledge(acquire, "")
		s.step("held")
		if dead {
			s.fold(down("a", "1")...)
		}
		s.fold(removed())
		s.acknowledge(s.step("remove from holder"), "")
		if dead {
			s.step("forget")
			s.step("forgotten")
			s.fold(up("a", "2")...)
		}
		release := s.step("remove other copy").(*events.ReleaseRequested)
		if release.Node != "a" || !release.Remove || release.Demote {
			t.Errorf("release %+v", release)
		}
		s.acknowledge(release, "")
		if !dead {
			s.step("forget")
		}
		s.step("forgotten")
	}
	// Who alone has had it is told that nobody else has.
	s := held(t, tracked())
	s.fold(up("a", "2")...)
	for {
		f := Decide(s.state, "d", s.now, "op").Fact
		if a, ok := f.(*events.AcquireRequested); ok {
			if a.Elsewhere {
				t.Errorf("acquire %+v", a)
			}
			return
		}
		s.fold(f)
	}
}

// A master whose node dies goes where a copy is, if one is anywhere; where it went to a node
// without one, and cannot be opened there, it goes back as soon as its node does.
func TestMasterGoesToACopy(t *testing.T) {
	s := held(t, created())
	s.fold(down("a", "1")...)
	s.fold(up("c", "1")...)
	s.step("fence")
	if f := s.step("map").(*events.DirectoryMapped); f.Node != "c" {
		t.Fatalf("mapped %+v", f)
	}
	s.acknowledge(s.step("acquire"), fault.Corrupt) // its journal begins too late
	s.fold(up("a", "2")...)
	if f := s.step("return to the copy").(*events.DirectoryMapped); f.Node != "a" || f.Role != events.Master {
		t.Fatalf("mapped %+v", f)
	}
	s.acknowledge(s.step("acquire"), "")
	s.step("held")
	// A replica was at b, and is promoted at a: when a dies, b has the next best copy.
	s = held(t, tracked())
	s.fold(up("b", "1")...)
	s.fold(&events.DirectoryMapped{Directory: "d", Pool: "p", Node: "b", Role: events.Slave, Epoch: 2})
	s.acknowledge(s.step("superseded holder"), "")
	s.acknowledge(s.step("acquire"), "")
	s.fold(promote(false))
	s.acknowledge(s.step("let go of the old role"), "")
	s.step("map in the new role")
	s.acknowledge(s.step("acquire"), "")
	s.fold(up("A", "1")...) // has nothing, and would be first
	s.fold(down("b", "1")...)
	s.step("fence")
	if f := s.step("map").(*events.DirectoryMapped); f.Node != "a" {
		t.Fatalf("mapped %+v", f)
	}
}

// A master whose node dies goes to a node that had it before; where the copy there turns out to
// be too old, it goes back as soon as the node with the newest one lives.
func TestMasterReturnsToTheNewestCopy(t *testing.T) {
	s := held(t, tracked()) // at a
	s.fold(up("b", "1")...)
	s.fold(&events.DirectoryMapped{Directory: "d", Pool: "p", Node: "b", Role: events.Slave, Epoch: 2})
	s.acknowledge(s.step("superseded holder"), "")
	s.acknowledge(s.step("acquire"), "")
	s.fold(promote(false))
	s.acknowledge(s.step("let go of the old role"), "")
	s.step("map in the new role")
	s.acknowledge(s.step("acquire"), "")
	s.fold(down("b", "1")...)
	s.step("fence")
	if f := s.step("map").(*events.DirectoryMapped); f.Node != "a" {
		t.Fatalf("mapped %+v", f)
	}
	s.acknowledge(s.step("acquire"), fault.Corrupt) // the journal begins too late for it
	s.now += events.Instant(retryMax)
	s.acknowledge(s.step("acquire"), fault.Corrupt)
	s.fold(up("b", "2")...)
	if f := s.step("return to the copy").(*events.DirectoryMapped); f.Node != "b" || f.Role != events.Master {
		t.Fatalf("mapped %+v", f)
	}
	s.acknowledge(s.step("acquire"), fault.Corrupt)
	s.now += events.Instant(retryMax)
	s.acknowledge(s.step("acquire"), "") // it does not bounce
	s.step("held")
}

// A site that loses its primary while a replica is on its way to another node still has a
// complete copy, at the node that it left: a forced promotion goes there. One that waits for
// consent does not: what it needs can still come.
func TestForcedPromotionGoesToACompleteCopy(t *testing.T) {
	moving := func(t *testing.T) *script {
		s := held(t, tracked())
		s.fold(&events.DirectoryMeasured{Directory: "d", Node: "a", Complete: true})
		s.fold(up("b", "1")...)
		s.fold(&events.DirectoryMapped{Directory: "d", Pool: "p", Node: "b", Role: events.Slave, Epoch: 2})
		s.acknowledge(s.step("superseded holder"), "")
		s.acknowledge(s.step("acquire"), "")
		s.step("held")
		return s
	}
	for _, c := range []struct {
		name     string
		measured []events.Fact
		force    bool
		node     string
	}{
		{"in its first sync", []events.Fact{&events.DirectoryMeasured{Directory: "d", Node: "b"}}, true, "a"},
		{"not measured yet", nil, true, "a"},
		{"complete", []events.Fact{&events.DirectoryMeasured{Directory: "d", Node: "b", Complete: true}}, true, "b"},
		{"in order", []events.Fact{&events.DirectoryMeasured{Directory: "d", Node: "b"}}, false, "b"},
		{"the other is dead", append(down("a", "1"), &events.DirectoryMeasured{Directory: "d", Node: "b"}), true, "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := moving(t)
			s.fold(c.measured...)
			s.fold(promote(c.force))
			release := s.step("let go of the old role").(*events.ReleaseRequested)
			if release.Node != "b" {
				t.Errorf("release %+v", release)
			}
			s.acknowledge(release, "")
			if f := s.step("map in the new role").(*events.DirectoryMapped); f.Node != c.node || f.Role != events.Master {
				t.Errorf("mapped %+v", f)
			}
			if f := s.step("acquire").(*events.AcquireRequested); f.Node != c.node || f.Promote == "" {
				t.Errorf("acquire %+v", f)
			}
		})
	}
}
