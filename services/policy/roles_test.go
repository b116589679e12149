package policy

import (
	"strings"
	"testing"

	"tidemark/events"
	"tidemark/internal/fault"
)

func TestDemotion(t *testing.T) {
	s := held(t, created())
	s.fold(demote())
	release := s.step("demote").(*events.ReleaseRequested)
	if !release.Demote || release.Remove || release.Epoch != 1 {
		t.Errorf("release %+v", release)
	}
	// The node dies first: nobody may follow before the ownership has ended.
	s.fold(down("a", "1")...)
	s.step("fence")
	s.step("no node to demote")
	s.fold(up("b", "1")...)
	s.step("place to demote")
	if f := s.step("demote unheld").(*events.ReleaseRequested); !f.Demote || f.Node != "b" || f.Role != events.Master {
		t.Errorf("release %+v", f)
	} else {
		s.acknowledge(f, "")
	}
	if f := s.step("map in the new role").(*events.DirectoryMapped); f.Role != events.Slave || f.Node != "b" || f.Epoch != 3 {
		t.Errorf("mapped %+v", f)
	}
	s.acknowledge(s.step("acquire"), "")
	s.step("held")
}

func TestRefusedDemotion(t *testing.T) {
	s := held(t, created())
	s.fold(demote())
	s.acknowledge(s.step("demote"), fault.Busy)
	if f := s.step("change of role refused").(*events.RoleChangeRefused); f.Role != events.Master || f.Code != "busy" {
		t.Errorf("refused %+v", f)
	}
	s.fold(demote()) // at once again: the former refusal says nothing about it
	s.acknowledge(s.step("demote"), fault.Busy)
	s.step("change of role refused")
	s.acknowledge(s.step("acquire"), "") // whatever the release left behind
	s.step("held")
}

func TestPromotion(t *testing.T) {
	for _, force := range []bool{false, true} {
		s := held(t, tracked())
		s.fold(promote(force))
		s.acknowledge(s.step("let go of the old role"), "")
		s.step("map in the new role")
		acquire := s.step("acquire").(*events.AcquireRequested)
		want := events.TagPromoted
		if force {
			want = events.TagForced
		}
		if acquire.Promote != want || acquire.Role != events.Master || acquire.Epoch != 2 {
			t.Errorf("acquire %+v", acquire)
		}
		s.acknowledge(acquire, "")
		s.step("held")
		s.fold(up("a", "2")...)
		s.step("fence")
		s.step("map again")
		if f := s.step("acquire").(*events.AcquireRequested); f.Promote != "" {
			t.Errorf("promoted again: %+v", f)
		}
	}
}

func TestRefusedPromotion(t *testing.T) {
	s := held(t, tracked())
	s.fold(promote(false))
	s.acknowledge(s.step("let go of the old role"), "")
	s.step("map in the new role")
	for range refuseAfter {
		s.acknowledge(s.step("acquire"), fault.Internal)
		s.now += events.Instant(retryMax)
	}
	s.step("change of role refused")
	if f := s.step("map in the new role").(*events.DirectoryMapped); f.Role != events.Slave || f.Epoch != 3 {
		t.Errorf("mapped %+v", f)
	}
	s.acknowledge(s.step("acquire"), "")
	s.step("held")

	// A replayer that does not let go ends it, too; nobody has anything to give back.
	s.fold(promote(false))
	s.acknowledge(s.step("let go of the old role"), fault.Corrupt)
	s.step("change of role refused")
	s.acknowledge(s.step("acquire"), "")
	s.step("held")
}

// A replica that went to a node which only follows is not promoted at the node that it came
// from: the copy there is old.
func TestPromotionAtACopyWithoutJournal(t *testing.T) {
	s := held(t, tracked())
	s.fold(down("a", "1")...)
	s.step("fence")
	s.fold(&events.InstanceAdded{Node: "b", Service: events.ServiceReplayer, Incarnation: "2"})
	s.step("map")
	s.acknowledge(s.step("acquire"), "")
	s.step("held")
	s.fold(up("a", "3")...)
	s.step("held")
	placeable := func() error { return newView(s.state, "d", s.now, "").placeable(events.Master) }
	if err := placeable(); fault.CodeOf(err) != fault.NotReady || !strings.Contains(err.Error(), "at node b") {
		t.Errorf("promotion: %v", err)
	}
	s.fold(&events.InstanceAdded{Node: "b", Service: events.ServiceJournal, Incarnation: "2"})
	if err := placeable(); err != nil {
		t.Errorf("with a journal service: %v", err)
	}
	s.fold(down("b", "2")...) // an older copy is better than none
	if err := placeable(); err != nil {
		t.Errorf("where that node is gone: %v", err)
	}
}

// A promotion that nobody could carry out leaves the replica alone.
func TestPromotionWithoutANode(t *testing.T) {
	s := held(t, tracked())
	s.fold(&events.InstanceRemoved{Node: "a", Service: events.ServiceJournal, Incarnation: "1"}, promote(false))
	s.step("no node for the new role")
	if d := Decide(s.state, "d", s.now, ""); !d.Stalled {
		t.Error("it is not stalled")
	}
	s.fold(up("a", "1")...)
	s.step("let go of the old role")
}
