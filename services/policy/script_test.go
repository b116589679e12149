package policy

import (
	"testing"

	"tidemark/events"
	"tidemark/internal/fault"
)

// script folds facts and decisions about one directory, "d" in pool "p".
type script struct {
	t     *testing.T
	state *State
	seq   uint64
	ops   int
	now   events.Instant
}

func newScript(t *testing.T) *script {
	return &script{t: t, state: NewState(), now: 1}
}

func (s *script) fold(facts ...events.Fact) {
	for _, f := range facts {
		s.seq++
		s.state.Evolve(s.seq, f)
	}
}

// step decides, asserts the row of the table, and folds what came of it.
func (s *script) step(row string) events.Fact {
	s.t.Helper()
	s.ops++
	d := Decide(s.state, "d", s.now, "op-"+string(rune('a'+s.ops)))
	if d.Rule != row {
		s.t.Fatalf("the table says %q, want %q", d.Rule, row)
	}
	if d.Fact != nil {
		s.fold(d.Fact)
	}
	return d.Fact
}

func (s *script) acknowledge(f events.Fact, code fault.Code) {
	switch f := f.(type) {
	case *events.AcquireRequested:
		s.fold(&events.AcquireAcknowledged{Assignment: f.Assignment, Code: string(code), At: s.now})
	case *events.ReleaseRequested:
		s.fold(&events.ReleaseAcknowledged{Assignment: f.Assignment, Code: string(code), Quiesced: code == "", At: s.now})
	default:
		s.t.Fatalf("%T is no request", f)
	}
}

func up(node, incarnation string) []events.Fact {
	return []events.Fact{
		&events.InstanceAdded{Node: node, Service: events.ServiceJournal, Incarnation: incarnation},
		&events.InstanceAdded{Node: node, Service: events.ServiceReplayer, Incarnation: incarnation},
	}
}

func down(node, incarnation string) []events.Fact {
	return []events.Fact{
		&events.InstanceRemoved{Node: node, Service: events.ServiceJournal, Incarnation: incarnation},
		&events.InstanceRemoved{Node: node, Service: events.ServiceReplayer, Incarnation: incarnation},
	}
}

func created() events.Fact {
	return &events.DirectoryCreated{Directory: "d", Pool: "p", Path: "/d"}
}

func tracked() events.Fact {
	return &events.DirectoryTracked{Directory: "d", Pool: "p", Path: "/d"}
}

func removed() events.Fact { return &events.DirectoryRemoved{Directory: "d", Pool: "p"} }
func demote() events.Fact  { return &events.DemotionRequested{Directory: "d", Pool: "p"} }

func promote(force bool) events.Fact {
	return &events.PromotionRequested{Directory: "d", Pool: "p", Force: force}
}

// held brings a directory to node a.
func held(t *testing.T, f events.Fact) *script {
	s := newScript(t)
	s.fold(up("a", "1")...)
	s.fold(f)
	s.step("map")
	s.acknowledge(s.step("acquire"), "")
	s.step("held")
	return s
}
