package policy

import (
	"fmt"
	"testing"

	"tidemark/events"
	"tidemark/internal/fault"
)

// directories 141, 143: a gone holder is fenced before anything else is done, the directory
// stays recorded to it meanwhile, and whoever has it next has a higher epoch.
func TestFencing(t *testing.T) {
	s := held(t, tracked())
	s.fold(up("b", "1")...)
	s.fold(down("a", "1")...)
	for range 3 { // for as long as the fence is not in the log
		d := Decide(s.state, "d", s.now, "op")
		f, ok := d.Fact.(*events.DirectoryFenced)
		if !ok || d.Status != Fencing || d.Stream != events.StreamDirectories || d.Stalled {
			t.Fatalf("decision %+v", d)
		}
		if f.Node != "a" || f.Service != events.ServiceReplayer || f.Incarnation != "1" || f.Epoch != 1 {
			t.Errorf("fence %+v", f)
		}
		if shown := s.state.describe("d", s.now); shown.State != "fencing" || shown.Node != "a" || shown.Epoch != 1 {
			t.Errorf("shown as %+v", shown)
		}
	}
	s.step("fence")
	if f := s.step("map").(*events.DirectoryMapped); f.Node != "b" || f.Epoch != 2 {
		t.Errorf("mapped %+v", f)
	}
	acquire := s.step("acquire").(*events.AcquireRequested)
	old := acquire.Assignment
	old.Node, old.Epoch = "a", 1
	s.fold(&events.AcquireAcknowledged{Assignment: old}) // of the old daemon
	s.step("acquire asked")
	s.acknowledge(acquire, "")
	s.step("held")
}

// Who let go, or refused, has nothing to be fenced of; who did not answer may hold it.
func TestWhoIsFenced(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(*script)
		row    string
	}{
		{"asked to acquire", func(s *script) { s.step("acquire") }, "fence"},
		{"refused", func(s *script) { s.acknowledge(s.step("acquire"), fault.NoSpace) }, "no node"},
		{"answered by the notifier", func(s *script) { s.acknowledge(s.step("acquire"), fault.Fenced) }, "fence"},
		{"holds", func(s *script) { s.acknowledge(s.step("acquire"), "") }, "fence"},
		{"never asked", func(*script) {}, "no node"},
		{"let go", func(s *script) {
			s.acknowledge(s.step("acquire"), "")
			s.fold(demote())
			s.acknowledge(s.step("demote"), "")
		}, "no node for the new role"},
		{"let go, not quiesced", func(s *script) {
			s.acknowledge(s.step("acquire"), "")
			s.fold(demote())
			r := s.step("demote").(*events.ReleaseRequested)
			s.fold(&events.ReleaseAcknowledged{Assignment: r.Assignment, At: s.now})
		}, "fence"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScript(t)
			s.t = t
			s.fold(up("a", "1")...)
			s.fold(created())
			s.step("map")
			c.answer(s)
			s.fold(down("a", "1")...)
			s.step(c.row)
		})
	}
}

// Of several that are gone one fence covers all; a live one in an earlier epoch lets go.
func TestOneFenceForAll(t *testing.T) {
	s := held(t, tracked())
	s.fold(up("a", "2")...)
	s.step("fence")
	s.step("map again")
	s.acknowledge(s.step("acquire"), "")
	s.fold(up("b", "1")...)
	s.fold(down("a", "2")...)
	if f := s.step("fence").(*events.DirectoryFenced); f.Incarnation != "2" || f.Epoch != 2 {
		t.Errorf("fence %+v", f)
	}
	s.step("map")
	s.acknowledge(s.step("acquire"), "")
	s.step("held")
	// A fence that is read again, or of an epoch that was covered, changes nothing.
	s.fold(&events.DirectoryFenced{Directory: "d", Pool: "p", Node: "a", Incarnation: "1", Epoch: 1})
	if s.state.Directories["d"].Fenced != 2 {
		t.Errorf("fenced up to %d", s.state.Directories["d"].Fenced)
	}
	s.step("held")
}

// Each start of a node leaves an incarnation that may hold what it held. What is remembered of
// them does not grow for ever, and whoever is gone last is fenced all the same.
func TestManyStarts(t *testing.T) {
	s := held(t, created())
	for n := range 200 {
		s.fold(up("a", fmt.Sprint("start ", n))...)
		if f := s.step("fence").(*events.DirectoryFenced); f.Epoch != uint64(n+1) {
			t.Fatalf("fence %+v", f)
		}
		s.step("map again")
		s.acknowledge(s.step("acquire"), "")
		s.step("held")
	}
	if n := len(s.state.Assignments["d"].Holders); n > incarnationsMax {
		t.Errorf("%d holders are remembered", n)
	}
}
