package policy

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
)

// configure changes how replicas are spread, and says what a directory amounts to.
func (m *model) configure(t *rapid.T) {
	if rapid.Bool().Draw(t, "measure") {
		m.publish(events.StreamPositions, &events.DirectoryMeasured{
			Directory: rapid.SampledFrom(directories()).Draw(t, "directory"), Node: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "node"),
			Bytes: rapid.Uint64().Draw(t, "bytes"), Rate: rapid.Uint64().Draw(t, "rate"), Complete: rapid.Bool().Draw(t, "complete"),
		})
		return
	}
	m.publish(events.StreamPools, &events.PlacementConfigured{
		Throttle: rapid.SampledFrom([]time.Duration{-1, 0, time.Second, DefaultThrottle}).Draw(t, "throttle"),
		By:       rapid.SampledFrom([]events.Balance{events.BalanceCount, events.BalanceSize, events.BalanceWrites}).Draw(t, "by"),
	})
}

// answer acknowledges an open request: as the node would, or as the notifier does in the
// place of one that is gone.
func (m *model) answer(i int, code fault.Code, quiesced bool) {
	f := m.open[i]
	m.open = slices.Delete(m.open, i, i+1)
	r, _ := requestOf(f)
	seat := seatOf(r.Assignment)
	if !m.isAlive(seat) {
		code, quiesced = fault.Fenced, false
	}
	m.done[r.Assignment.Operation] = true
	if r.Release {
		if code == "" && quiesced || code == fault.NotFound {
			delete(m.holds[r.Assignment.Directory], seat)
		}
		m.publish(events.StreamNotifications, &events.ReleaseAcknowledged{
			Assignment: r.Assignment, Code: string(code), Quiesced: quiesced && code == "", At: m.now,
		})
		return
	}
	if code != "" && code != fault.Fenced {
		delete(m.holds[r.Assignment.Directory], seat)
	}
	m.publish(events.StreamNotifications, &events.AcquireAcknowledged{Assignment: r.Assignment, Code: string(code), At: m.now})
}

func (m *model) start(k Key) {
	m.started++
	m.alive[k] = fmt.Sprintf("inc-%d", m.started)
	delete(m.silent, k)
	m.publish(events.StreamInstances, &events.InstanceAdded{Node: k.Node, Service: k.Service, Incarnation: m.alive[k]})
}

func (m *model) fallSilent(k Key) {
	if inc, ok := m.alive[k]; ok {
		delete(m.alive, k)
		m.silent[k] = inc
		m.publish(events.StreamInstances, &events.InstanceRemoved{Node: k.Node, Service: k.Service, Incarnation: inc})
	}
}

func (m *model) comeBack(k Key) {
	if inc, ok := m.silent[k]; ok {
		delete(m.silent, k)
		m.alive[k] = inc
		m.publish(events.StreamInstances, &events.InstanceAdded{Node: k.Node, Service: k.Service, Incarnation: inc})
	}
}

// command does what an operator may do to a directory in its state.
func (m *model) command(t *rapid.T, id events.DirectoryID) {
	d := m.state.Directories[id]
	switch {
	case d == nil: // for the first time, or again: its epoch goes on
		f := rapid.SampledFrom([]events.Fact{
			&events.DirectoryCreated{Directory: id, Pool: "p", Path: "/" + string(id)},
			&events.DirectoryTracked{Directory: id, Pool: "p", Path: "/" + string(id)},
		}).Draw(t, "new")
		m.publish(events.StreamDirectories, f)
	case d.Removing:
	case rapid.IntRange(0, 9).Draw(t, "remove") == 0:
		m.publish(events.StreamDirectories, &events.DirectoryRemoved{Directory: id, Pool: "p", IfEmpty: rapid.Bool().Draw(t, "if empty")})
	case d.Intent.Role == events.Slave && rapid.IntRange(0, 2).Draw(t, "resync") == 0:
		m.resync[id] = d.Resync.Last + 1
		m.publish(events.StreamDirectories, &events.ResyncRequested{Directory: id, Pool: "p", Number: m.resync[id], KeepRefused: rapid.Bool().Draw(t, "keep")})
	case d.Intent.Role == events.Slave:
		m.resync[id] = 0
		m.publish(events.StreamDirectories, &events.PromotionRequested{Directory: id, Pool: "p", Force: rapid.Bool().Draw(t, "force")})
	default:
		m.publish(events.StreamDirectories, &events.DemotionRequested{Directory: id, Pool: "p"})
	}
}

func directories() []events.DirectoryID { return []events.DirectoryID{"d1", "d2", "d3", "d4", "d5"} }

func instances() []Key {
	var all []Key
	for _, node := range []string{"a", "b", "c"} {
		all = append(all, Key{node, events.ServiceJournal}, Key{node, events.ServiceReplayer})
	}
	return all
}

// directories 99-108, 120, 124, 127: any history of intentions, nodes and answers.
func TestAnyHistory(t *testing.T) {
	codes := []fault.Code{"", "", "", fault.Internal, fault.Busy, fault.SplitBrain, fault.NotFound, fault.Fenced}
	// One call checks 100 histories; rare orders of events need more.
	for range sitetest.Rounds(30) {
		rapid.Check(t, func(t *rapid.T) {
			m := newModel()
			t.Repeat(map[string]func(*rapid.T){
				"command": func(t *rapid.T) { m.command(t, rapid.SampledFrom(directories()).Draw(t, "directory")) },
				"start":   func(t *rapid.T) { m.start(rapid.SampledFrom(instances()).Draw(t, "instance")) },
				"silent":  func(t *rapid.T) { m.fallSilent(rapid.SampledFrom(instances()).Draw(t, "instance")) },
				"back":    func(t *rapid.T) { m.comeBack(rapid.SampledFrom(instances()).Draw(t, "instance")) },
				"decide":  func(t *rapid.T) { m.decide(t, rapid.SampledFrom(directories()).Draw(t, "directory")) },
				"decide more": func(t *rapid.T) {
					for range 4 {
						m.decide(t, rapid.SampledFrom(directories()).Draw(t, "directory"))
					}
				},
				"answer": func(t *rapid.T) {
					if len(m.open) == 0 {
						t.Skip("nothing to answer")
					}
					i := rapid.IntRange(0, len(m.open)-1).Draw(t, "request")
					m.answer(i, rapid.SampledFrom(codes).Draw(t, "code"), rapid.Bool().Draw(t, "quiesced"))
				},
				"configure": m.configure,
				"wait":      func(*rapid.T) { m.now += events.Instant(retryMax) },
				"go on": func(t *rapid.T) {
					m.now += events.Instant(DefaultThrottle)
					m.goOn(t)
				},
				"fail on": func(t *rapid.T) { m.failOn(t, rapid.SampledFrom(directories()).Draw(t, "directory")) },
				"restart": m.refold,
			})
			m.calmDown(t)
		})
	}
}

// failOn lets everything that is asked about a directory fail for a while.
func (m *model) failOn(t *rapid.T, id events.DirectoryID) {
	for range moveAfter {
		m.decide(t, id)
		for i, o := range m.open {
			if r, _ := requestOf(o); r.Assignment.Directory == id {
				m.answer(i, fault.Internal, false)
				break
			}
		}
		m.now += events.Instant(retryMax)
	}
}

// goOn lets every request succeed, and everything that comes of it happen, until nothing does.
func (m *model) goOn(t *rapid.T) {
	for round := 0; ; round++ {
		if round > 200 {
			t.Fatalf("nothing settles")
		}
		m.now += events.Instant(retryMax)
		moved := false
		for len(m.open) > 0 {
			m.answer(0, "", true)
			moved = true
		}
		for _, id := range directories() {
			moved = m.decide(t, id) || moved
		}
		if !moved {
			break
		}
	}
}

// calmDown lets one node live and every request succeed: everything settles.
func (m *model) calmDown(t *rapid.T) {
	for _, k := range instances() {
		if k.Node == "a" {
			m.start(k)
		}
	}
	m.goOn(t)
	for _, id := range directories() {
		d := m.state.Directories[id]
		if d == nil {
			m.checkForgotten(t, id)
			continue
		}
		decision := Decide(m.state, id, m.now, "op")
		if d.Removing || decision.Status != Associated || d.Mapping.Role != d.Intent.Role {
			t.Fatalf("%s ends as %+v, wanted %+v", id, decision, d.Intent)
		}
		if h := newView(m.state, id, m.now, "").holder(); d.Intent.Role == events.Slave && h.Resync < m.resync[id] {
			t.Fatalf("%s ends acquired with resync %d, wanted %d", id, h.Resync, m.resync[id])
		}
	}
	m.refold(t)
}
