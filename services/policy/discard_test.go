package policy

import (
	"testing"

	"tidemark/events"
	"tidemark/internal/fault"
)

// left is a replica that went from node a, which keeps its copy, to node b.
func left(t *testing.T) *script {
	s := held(t, tracked())
	s.fold(&events.DirectoryMeasured{Directory: "d", Node: "a", Bytes: 3 << 20, Complete: true})
	s.fold(down("a", "1")...)
	s.step("fence")
	s.fold(up("b", "2")...)
	s.step("map")
	s.acknowledge(s.step("acquire"), "")
	s.fold(up("a", "3")...)
	s.step("held")
	return s
}

// A copy that a replica has left is shown, and its node is asked to delete it only while another
// one holds the directory with a complete copy.
func TestOldCopies(t *testing.T) {
	s := left(t)
	view := func() *view { return newView(s.state, "d", s.now, "op") }
	check := func(why, node string, want fault.Code) {
		t.Helper()
		if err := view().discardable(node); want == "" && err != nil || want != "" && fault.CodeOf(err) != want {
			t.Errorf("%s: %v", why, err)
		}
	}
	d := s.state.describe("d", s.now)
	if len(d.OldCopies) != 1 || d.OldCopies[0].Node != "a" || !d.OldCopies[0].Lives || d.OldCopies[0].Bytes != 3<<20 {
		t.Errorf("old copies: %+v", d.OldCopies)
	}
	check("the holder has told nothing of its copy", "a", fault.NotReady)
	s.fold(&events.DirectoryMeasured{Directory: "d", Node: "b"})
	check("the holder is in its first sync", "a", fault.NotReady)
	s.fold(&events.DirectoryMeasured{Directory: "d", Node: "b", Complete: true})
	check("nobody needs it", "a", "")
	check("the copy in use", "b", fault.Busy)
	check("a node that never had one", "c", fault.NotFound)
	s.fold(down("a", "3")...)
	check("its node is gone", "a", fault.NotReady)
	if d := s.state.describe("d", s.now); len(d.OldCopies) != 1 || d.OldCopies[0].Lives {
		t.Errorf("of a node that is gone: %+v", d.OldCopies)
	}
	s.fold(up("a", "4")...)
	s.fold(down("b", "2")...)
	check("the holder is gone", "a", fault.NotReady)
	s.step("fence")
	s.step("map")
	check("it is on its way back", "a", fault.Busy)
	s.acknowledge(s.step("acquire"), "")
	s.fold(promote(true))
	s.acknowledge(s.step("let go of the old role"), "")
	s.step("map in the new role")
	s.acknowledge(s.step("acquire"), "")
	s.fold(up("b", "5")...)
	check("it is primary here", "b", fault.Busy)
}

// A request to delete an old copy, and its answer, change nothing about who holds the directory.
func TestDiscardChangesNoAssignment(t *testing.T) {
	for _, code := range []fault.Code{"", fault.Busy, fault.Fenced, fault.Internal} {
		s := left(t)
		s.fold(&events.DirectoryMeasured{Directory: "d", Node: "b", Complete: true})
		v := newView(s.state, "d", s.now, "op")
		f := v.release(Seat{"a", events.ServiceReplayer, "3"}, events.Slave)
		f.Discard = true
		s.fold(f)
		s.step("held")
		s.acknowledge(f, code)
		s.step("held")
		a, d := s.state.Assignments["d"], s.state.describe("d", s.now)
		if _, kept := a.Copies["a"]; kept != (code != "") || len(a.Pending) != 0 || a.Copies["b"] == 0 || a.Removed || a.Failure != nil {
			t.Errorf("answered %q: %+v", code, a)
		}
		if (a.Kept != nil) != (code != "") || d.Error != "" || d.State != "mapped" || d.Node != "b" || len(d.OldCopies) == 0 != (code == "") {
			t.Errorf("answered %q: %+v, %+v", code, a.Kept, d)
		}
		s.fold(removed())
		s.acknowledge(s.step("remove from holder"), "")
		if code == "" {
			s.step("forget")
		} else {
			s.step("remove other copy")
		}
	}
}
