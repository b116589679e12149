package holder_test

import (
	"errors"
	"testing"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/sitetest"
	"tidemark/internal/tail"
)

const fencedID events.DirectoryID = "00112233aabbccdd"

func tenureOf(at *sitetest.Site, incarnation string, epoch uint64, ended chan string) *holder.Tenure {
	s := holder.Service{Bus: at.Bus, Node: at.Node, Log: at.Log, Ended: ended}
	return s.Tenure(events.Assignment{Operation: "1", Directory: fencedID, Node: "node", Incarnation: incarnation, Role: events.Slave, Epoch: epoch})
}

func word() events.PositionCommitted {
	return events.PositionCommitted{Directory: fencedID, Client: "east.node", Role: events.Slave, State: events.ClientConnected}
}

// lastWord returns what the log says of the client.
func lastWord(t *testing.T, at *sitetest.Site) *events.PositionCommitted {
	t.Helper()
	m, err := at.Bus.Last(t.Context(), events.StreamPositions, events.PositionSubject(fencedID, "east.node"))
	if errors.Is(err, bus.ErrNotFound) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	fact, err := events.Unmarshal(m.Data)
	if err != nil {
		t.Fatal(err)
	}
	return fact.(*events.PositionCommitted)
}

// directories 80, 143: from the fence on the log refuses what the fenced holder says, however
// it was stopped in between, and takes what its successor does.
//
// By hand it was seen to fail when a position is published without a condition.
func TestTenureEndsAtTheFence(t *testing.T) {
	at := sitetest.Start(t, "east")
	ended := make(chan string, 1)
	old := tenureOf(at, "1", 3, ended)
	if err := old.Announce(t.Context(), word()); err != nil {
		t.Fatal(err)
	}
	if said := lastWord(t, at); said.Incarnation != "1" || said.Epoch != 3 {
		t.Errorf("said %+v", said)
	}
	at.Fence(t, fencedID, 2) // of its predecessor, late
	if err := old.Announce(t.Context(), word()); err != nil || old.Over() {
		t.Fatalf("a fence of an earlier epoch ended it: %v", err)
	}
	at.Fence(t, fencedID, 3)
	if err := old.Announce(t.Context(), word()); !errors.Is(err, tail.ErrFenced) || fault.CodeOf(err) != fault.Fenced {
		t.Fatalf("a fenced holder was told %v", err)
	}
	if who := <-ended; who != "1" || !old.Over() {
		t.Errorf("told of %q, over %v", who, old.Over())
	}
	next := tenureOf(at, "2", 4, ended)
	if err := next.Announce(t.Context(), word()); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{old.Announce(t.Context(), word()), old.Check(t.Context()), tenureOf(at, "1", 3, ended).Check(t.Context())} {
		if !errors.Is(err, tail.ErrFenced) {
			t.Errorf("a fenced holder was told %v", err)
		}
	}
	if said := lastWord(t, at); said.Incarnation != "2" || said.Epoch != 4 {
		t.Errorf("said %+v", said)
	}
}

// A later assignment of the same holder is not covered by the fence of the one before.
func TestTenureIsRenewed(t *testing.T) {
	at := sitetest.Start(t, "east")
	held := tenureOf(at, "1", 3, nil)
	if err := held.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	held.Renew(events.Assignment{Directory: fencedID, Incarnation: "1", Epoch: 4})
	held.Renew(events.Assignment{Directory: fencedID, Incarnation: "1", Epoch: 2}) // late
	at.Fence(t, fencedID, 3)
	if err := held.Announce(t.Context(), word()); err != nil {
		t.Fatal(err)
	}
	if said := lastWord(t, at); said.Epoch != 4 {
		t.Errorf("said %+v", said)
	}
}
