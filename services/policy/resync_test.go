package policy

import (
	"testing"

	"tidemark/events"
	"tidemark/internal/fault"
)

func resync(number uint64, keep bool) events.Fact {
	return &events.ResyncRequested{Directory: "d", Pool: "p", Number: number, KeepRefused: keep}
}

// journal 244: asked for while it follows. Whoever holds it lets go, and acquires again
// with the number; that is done once.
func TestResync(t *testing.T) {
	s := held(t, tracked())
	s.fold(resync(1, true))
	release := s.step("let go to resync").(*events.ReleaseRequested)
	if release.Demote || release.Remove || release.KeepAll || release.Role != events.Slave {
		t.Errorf("release %+v", release)
	}
	s.step("release asked")
	s.acknowledge(release, fault.Internal)
	s.now += events.Instant(retryMax)
	s.acknowledge(s.step("let go to resync"), "")
	acquire := s.step("acquire").(*events.AcquireRequested)
	if acquire.Resync != 1 || !acquire.KeepRefused || acquire.Epoch != 1 {
		t.Errorf("acquire %+v", acquire)
	}
	s.acknowledge(acquire, "")
	s.step("held")

	// An old request that is read again changes nothing; a newer one does.
	s.fold(resync(1, false))
	s.step("held")
	s.fold(resync(2, false))
	s.acknowledge(s.step("let go to resync"), "")
	if f := s.step("acquire").(*events.AcquireRequested); f.Resync != 2 || f.KeepRefused {
		t.Errorf("acquire %+v", f)
	}
}

// journal 298: asked for while the replayer is down, or while it is asked to acquire. It
// is told as soon as it can be, and each of its incarnations again.
func TestResyncWhileNobodyHolds(t *testing.T) {
	s := held(t, tracked())
	s.fold(down("a", "1")...)
	s.fold(resync(1, false))
	s.step("fence")
	s.step("no node")
	s.fold(up("a", "2")...)
	s.step("map again")
	acquire := s.step("acquire").(*events.AcquireRequested)
	if acquire.Resync != 1 {
		t.Errorf("acquire %+v", acquire)
	}
	s.fold(resync(2, false)) // before it has answered
	s.step("acquire asked")
	s.acknowledge(acquire, "")
	s.acknowledge(s.step("let go to resync"), "")
	if f := s.step("acquire").(*events.AcquireRequested); f.Resync != 2 {
		t.Errorf("acquire %+v", f)
	}
	s.fold(up("a", "3")...)
	s.step("fence")
	s.step("map again")
	if f := s.step("acquire").(*events.AcquireRequested); f.Resync != 2 || f.Incarnation != "3" {
		t.Errorf("acquire %+v", f)
	}
}

// What is promoted after a resync was asked for is kept, also when it follows again.
func TestPromotionEndsAResync(t *testing.T) {
	s := held(t, tracked())
	s.fold(down("a", "1")...)
	s.fold(resync(1, false), promote(true))
	s.fold(up("a", "2")...)
	s.step("fence")
	s.step("map in the new role")
	if f := s.step("acquire").(*events.AcquireRequested); f.Resync != 0 || f.Role != events.Master {
		t.Errorf("acquire %+v", f)
	} else {
		s.acknowledge(f, "")
	}
	s.fold(demote())
	s.acknowledge(s.step("demote"), "")
	s.step("map in the new role")
	if f := s.step("acquire").(*events.AcquireRequested); f.Resync != 0 {
		t.Errorf("acquire %+v", f)
	} else {
		s.acknowledge(f, "")
	}
	s.fold(resync(2, false))
	s.acknowledge(s.step("let go to resync"), "")
	if f := s.step("acquire").(*events.AcquireRequested); f.Resync != 2 {
		t.Errorf("acquire %+v", f)
	}
}

// Two incarnations of a node in turn: the older, which was told of no resync, comes back.
func TestResyncOfAReplacedHolder(t *testing.T) {
	s := held(t, tracked())
	s.fold(up("a", "2")...)
	s.step("fence")
	s.step("map again")
	s.acknowledge(s.step("acquire"), fault.Fenced) // it may hold it, and may come back
	s.fold(resync(1, false))
	s.step("let go to resync")
}
