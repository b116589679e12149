package policy

import (
	"testing"

	"tidemark/events"
	"tidemark/internal/fault"
)

// An acquire under way is answered before the removal begins; a dead node is not waited
// for. directories 106, 107, 108, 126.
func TestRemovals(t *testing.T) {
	s := newScript(t)
	s.fold(created())
	s.step("no node")
	s.fold(removed())
	s.step("forget")

	s = newScript(t)
	s.fold(up("a", "1")...)
	s.fold(created())
	s.step("map")
	acquire := s.step("acquire")
	s.fold(removed())
	s.step("removal asked")
	s.acknowledge(acquire, fault.Internal)
	s.step("remove copy")

	s = held(t, created())
	s.fold(down("a", "1")...)
	s.fold(removed())
	s.step("fence")
	s.step("forget")

	s = held(t, created())
	s.fold(removed())
	release := s.step("remove from holder")
	s.fold(down("a", "1")...)
	s.acknowledge(release, fault.Fenced)
	s.step("fence")
	s.fold(up("a", "2")...)
	s.acknowledge(s.step("remove copy"), fault.NotFound)
	s.step("forget")
}

// journal 297: what was removed while its node was down is deleted when that starts, and by
// a node that was only silent at once.
func TestForgottenCopiesAreRemoved(t *testing.T) {
	s := held(t, tracked())
	s.fold(down("a", "1")...)
	s.fold(removed())
	s.step("fence")
	s.step("forget")
	s.step("forgotten")
	s.fold(up("a", "1")...)
	if f := s.step("remove from holder").(*events.ReleaseRequested); !f.Remove || f.Incarnation != "1" {
		t.Errorf("release %+v", f)
	} else {
		s.acknowledge(f, "")
	}
	s.step("forgotten")

	s = held(t, tracked())
	s.fold(down("a", "1")...)
	s.fold(removed())
	s.step("fence")
	s.step("forget")
	s.fold(up("a", "2")...)
	s.acknowledge(s.step("remove copy"), fault.Internal)
	s.now += events.Instant(retryMax)
	s.acknowledge(s.step("remove copy"), "")
	s.step("forgotten")
	s.fold(up("a", "3")...)
	s.step("forgotten")

	// The name was given away meanwhile: the new directory is another one.
	s = held(t, tracked())
	s.fold(down("a", "1")...)
	s.fold(removed())
	s.step("fence")
	s.step("forget")
	s.fold(&events.DirectoryTracked{Directory: "e", Pool: "p", Path: "/d"})
	s.fold(up("a", "2")...)
	s.acknowledge(s.step("remove copy"), "")
	if s.state.Names[events.DirectoryName{Pool: "p", Path: "/d"}] != "e" {
		t.Error("the new directory lost its name")
	}
}

// A directory that turns out to hold images when it was let go of stays, and is acquired
// again; what it cannot answer, too.
func TestRemovalRefused(t *testing.T) {
	for _, code := range []fault.Code{fault.Busy, fault.Corrupt} {
		s := held(t, created())
		s.fold(&events.DirectoryRemoved{Directory: "d", Pool: "p", IfEmpty: true})
		release := s.step("remove from holder").(*events.ReleaseRequested)
		if !release.Remove || !release.IfEmpty {
			t.Errorf("release %+v", release)
		}
		s.acknowledge(release, code)
		if f := s.step("removal refused").(*events.RemovalRefused); f.Code != string(code) || f.Operation != release.Operation {
			t.Errorf("refused %+v", f)
		}
		s.acknowledge(s.step("acquire"), "")
		s.step("held")
		s.fold(&events.DirectoryRemoved{Directory: "d", Pool: "p", IfEmpty: true}) // once more
		s.acknowledge(s.step("remove from holder"), "")
		s.step("forget")
	}
	// What may pass by itself is tried again.
	s := held(t, created())
	s.fold(&events.DirectoryRemoved{Directory: "d", Pool: "p", IfEmpty: true})
	for range refuseAfter {
		s.acknowledge(s.step("remove from holder"), fault.Timeout)
		s.now += events.Instant(retryMax)
	}
	s.step("removal refused")
}
