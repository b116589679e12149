package sitetest_test

import (
	"strings"
	"testing"

	"tidemark/events"
	"tidemark/internal/sitetest"
)

// TestHolderFaults shows that the check which other tests rely on finds what it is for.
func TestHolderFaults(t *testing.T) {
	at := func(node, incarnation, operation string, epoch uint64) events.Assignment {
		return events.Assignment{Operation: operation, Directory: "d", Node: node, Incarnation: incarnation, Role: events.Slave, Epoch: epoch}
	}
	up := func(node, incarnation string) events.Fact {
		return &events.InstanceAdded{Node: node, Service: events.ServiceReplayer, Incarnation: incarnation}
	}
	down := func(node, incarnation string) events.Fact {
		return &events.InstanceRemoved{Node: node, Service: events.ServiceReplayer, Incarnation: incarnation}
	}
	acquire := func(a events.Assignment) events.Fact { return &events.AcquireRequested{Assignment: a} }
	fence := &events.PositionsFenced{Directory: "d", Epoch: 1}
	fenced := &events.DirectoryFenced{Directory: "d", Node: "a", Service: events.ServiceReplayer, Incarnation: "1", Epoch: 1}
	said := func(incarnation string, epoch uint64) events.Fact {
		return &events.PositionCommitted{Directory: "d", Incarnation: incarnation, Epoch: epoch}
	}
	first := at("a", "1", "1", 1)
	for _, c := range []struct {
		name  string
		fault string // "" is none
		facts []events.Fact
	}{
		{"fenced, then given on", "", []events.Fact{
			up("a", "1"), up("b", "2"), &events.DirectoryMapped{Directory: "d", Epoch: 1}, acquire(first), said("1", 1), down("a", "1"),
			fence, fenced, &events.DirectoryMapped{Directory: "d", Epoch: 2}, acquire(at("b", "2", "2", 2)), said("2", 2), up("a", "3"),
		}},
		{"let go, then given on", "", []events.Fact{
			acquire(first), &events.ReleaseRequested{Assignment: at("a", "1", "2", 2)},
			&events.ReleaseAcknowledged{Assignment: at("a", "1", "2", 2), Quiesced: true}, acquire(at("b", "2", "3", 2)),
		}},
		{"refused, then given on", "", []events.Fact{
			acquire(first), &events.AcquireAcknowledged{Assignment: first, Code: "no_space"}, acquire(at("b", "2", "2", 2)),
		}},
		{"not quiesced", "may hold it", []events.Fact{
			acquire(first), &events.ReleaseRequested{Assignment: at("a", "1", "2", 2)},
			&events.ReleaseAcknowledged{Assignment: at("a", "1", "2", 2)}, acquire(at("b", "2", "3", 2)),
		}},
		{"gone, not fenced", "may hold it", []events.Fact{acquire(first), down("a", "1"), acquire(at("b", "2", "2", 2))}},
		{"another's acknowledgement", "may hold it", []events.Fact{
			acquire(first), &events.AcquireAcknowledged{Assignment: at("a", "1", "1", 7), Code: "busy"}, acquire(at("b", "2", "2", 2)),
		}},
		{"fenced alive", "while it lives", []events.Fact{up("a", "1"), acquire(first), fence, fenced}},
		{"comes back", "comes back", []events.Fact{up("a", "1"), down("a", "1"), up("a", "1")}},
		{"comes back after its twin", "comes back", []events.Fact{up("a", "1"), up("a", "2"), up("a", "1")}},
		{"fence not in the log", "POSITIONS has", []events.Fact{acquire(first), down("a", "1"), fenced}},
		{"the same epoch again", "is fenced", []events.Fact{acquire(first), down("a", "1"), fence, fenced, acquire(at("b", "2", "2", 1))}},
		{"mapped in a fenced epoch", "is fenced", []events.Fact{
			acquire(first), down("a", "1"), fence, fenced, &events.DirectoryMapped{Directory: "d", Epoch: 1},
		}},
		{"a word behind the fence", "behind the fence", []events.Fact{acquire(first), down("a", "1"), fence, said("1", 1), fenced}},
		{"a word of who was not asked", "asked for nothing", []events.Fact{acquire(first), said("1", 2)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stored []sitetest.Stored
			for i, f := range c.facts {
				stored = append(stored, sitetest.Stored{Sequence: uint64(i + 1), Fact: f})
			}
			got := strings.Join(sitetest.HolderFaults(stored), "\n")
			if (got == "") != (c.fault == "") || !strings.Contains(got, c.fault) {
				t.Errorf("found %q, want %q", got, c.fault)
			}
		})
	}
}
