package policy

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
)

// model is the world around the pure core: nodes that start, fall silent, come back and
// answer, in any order. It keeps its own account of who may hold what.
type model struct {
	state   *State
	log     map[string][]events.Fact // by stream
	now     events.Instant
	ops     int
	alive   map[Key]string // incarnation
	silent  map[Key]string // may come back
	started int
	open    []events.Fact // requests that are not acknowledged
	// holds is who was asked to acquire a directory and has neither refused nor let go.
	holds  map[events.DirectoryID]map[Seat]bool
	epochs map[events.DirectoryID]uint64
	// intended is the node that the newest mapping in the log names.
	intended map[events.DirectoryID]string
	// asked is the epoch in which each incarnation was asked to acquire a directory last, and
	// fenced up to which epoch the log refuses what is said of it.
	asked  map[events.DirectoryID]map[Seat]uint64
	fenced map[events.DirectoryID]uint64
	// done are operations that were acknowledged.
	done map[string]bool
	// resync is the newest request of each directory that no promotion ended, and told
	// is what each incarnation was asked to acquire with while it did not let go.
	resync map[events.DirectoryID]uint64
	told   map[events.DirectoryID]map[Seat]uint64
}

func newModel() *model {
	return &model{
		state: NewState(), log: map[string][]events.Fact{}, now: 1,
		alive: map[Key]string{}, silent: map[Key]string{},
		holds: map[events.DirectoryID]map[Seat]bool{}, epochs: map[events.DirectoryID]uint64{},
		intended: map[events.DirectoryID]string{}, done: map[string]bool{},
		asked: map[events.DirectoryID]map[Seat]uint64{}, fenced: map[events.DirectoryID]uint64{},
		resync: map[events.DirectoryID]uint64{}, told: map[events.DirectoryID]map[Seat]uint64{},
	}
}

func (m *model) publish(stream string, f events.Fact) {
	m.log[stream] = append(m.log[stream], f)
	m.state.Evolve(uint64(len(m.log[stream])), f)
}

// decide takes one step of policy, and checks what it asks for.
func (m *model) decide(t *rapid.T, id events.DirectoryID) bool {
	m.ops++
	d := Decide(m.state, id, m.now, fmt.Sprintf("op-%d", m.ops))
	if again := Decide(m.state, id, m.now, fmt.Sprintf("op-%d", m.ops)); !reflect.DeepEqual(d, again) {
		t.Fatalf("two decisions: %+v and %+v", d, again)
	}
	switch f := d.Fact.(type) {
	case nil:
		return false
	case *events.DirectoryMapped:
		if f.Epoch <= m.epochs[id] {
			t.Fatalf("epoch %d after %d", f.Epoch, m.epochs[id])
		}
		m.epochs[id] = f.Epoch
		m.checkMove(t, d.Rule, f)
	case *events.DirectoryFenced:
		m.checkFence(t, f)
	case *events.AcquireRequested:
		m.checkAcquire(t, f)
		m.open = append(m.open, f)
	case *events.ReleaseRequested:
		m.open = append(m.open, f)
	case *events.DirectoryForgotten:
		for seat := range m.holds[id] {
			if m.isAlive(seat) {
				t.Fatalf("%s is forgotten while %+v holds it", id, seat)
			}
		}
	}
	if _, forgotten := d.Fact.(*events.DirectoryForgotten); forgotten {
		delete(m.resync, id) // whoever takes the id again begins anew
	}
	m.publish(d.Stream, d.Fact)
	return true
}

func (m *model) isAlive(s Seat) bool { return m.alive[Key{s.Node, s.Service}] == s.Incarnation }

// checkMove demands that a directory leaves a node that lives for balance only if it is a
// surplus there, and only when its throttle is over; that the only other reason is that it
// fails there; and that whoever is mapped to lives.
func (m *model) checkMove(t *rapid.T, rule string, to *events.DirectoryMapped) {
	from := m.state.Directories[to.Directory].Mapping
	if m.alive[Key{to.Node, events.ServiceOf(to.Role)}] == "" {
		t.Fatalf("mapped to a dead node: %+v", to)
	}
	m.intended[to.Directory] = to.Node
	if from.Epoch == 0 || from.Node == to.Node || from.Role != to.Role || m.alive[from.key()] == "" || rule == "move elsewhere" || rule == "return to the copy" {
		return
	}
	placement := m.state.Placement
	if placement.Throttle > 0 && m.now.Sub(from.At) < placement.Throttle {
		t.Fatalf("%+v leaves %+v after %s", to, from, m.now.Sub(from.At))
	}
	have := map[string]int{}
	for _, d := range m.state.Directories {
		if d.Mapping.Epoch > 0 && d.Mapping.Role == events.Slave {
			have[d.Mapping.Node]++
		}
	}
	if to.Role != events.Slave || placement.By == events.BalanceCount && have[from.Node] < have[to.Node]+2 {
		t.Fatalf("%+v leaves %+v, which has %d, and goes to %d", to, from, have[from.Node], have[to.Node])
	}
}

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

func (m *model) checkAcquire(t *rapid.T, f *events.AcquireRequested) {
	seat := seatOf(f.Assignment)
	if !m.isAlive(seat) {
		t.Fatalf("a dead instance is asked: %+v", f)
	}
	for other := range m.holds[f.Directory] {
		if other != seat && (m.isAlive(other) || m.asked[f.Directory][other] > m.fenced[f.Directory]) {
			t.Fatalf("%+v is asked to acquire %s, which %+v may hold", seat, f.Directory, other)
		}
	}
	for _, o := range m.open {
		if r, _ := requestOf(o); r.Assignment.Directory == f.Directory && m.isAlive(seatOf(r.Assignment)) {
			t.Fatalf("%+v while %+v is not answered", f, o)
		}
	}
	if f.Node != m.intended[f.Directory] {
		t.Fatalf("%+v, and the log maps it to %s", f, m.intended[f.Directory])
	}
	if f.Epoch != m.epochs[f.Directory] {
		t.Fatalf("epoch %d, the mapping has %d", f.Epoch, m.epochs[f.Directory])
	}
	if f.Epoch <= m.fenced[f.Directory] {
		t.Fatalf("%+v, and epoch %d is fenced", f, m.fenced[f.Directory])
	}
	if m.holds[f.Directory] == nil {
		m.holds[f.Directory], m.asked[f.Directory] = map[Seat]bool{}, map[Seat]uint64{}
	}
	m.asked[f.Directory][seat] = f.Epoch
	m.checkResync(t, f, seat)
	m.holds[f.Directory][seat] = true
}

// checkFence demands that only who is gone is fenced, and nobody who came later.
func (m *model) checkFence(t *rapid.T, f *events.DirectoryFenced) {
	seat := Seat{f.Node, f.Service, f.Incarnation}
	if m.isAlive(seat) || !m.holds[f.Directory][seat] {
		t.Fatalf("%+v is fenced, which lives or holds nothing", f)
	}
	if f.Epoch <= m.fenced[f.Directory] {
		t.Fatalf("%+v says nothing new", f)
	}
	m.fenced[f.Directory] = f.Epoch
}

// checkResync demands that a slave is told of the newest resync, and that who may hold the
// directory already, and would not listen, let go of it first.
func (m *model) checkResync(t *rapid.T, f *events.AcquireRequested, seat Seat) {
	want := m.resync[f.Directory]
	if f.Role == events.Master {
		want = 0
	}
	if f.Resync != want {
		t.Fatalf("acquire with resync %d, want %d: %+v", f.Resync, want, f)
	}
	if m.told[f.Directory] == nil {
		m.told[f.Directory] = map[Seat]uint64{}
	}
	if m.holds[f.Directory][seat] && m.told[f.Directory][seat] < want {
		t.Fatalf("%+v holds %s, and is not asked to let go before resync %d", seat, f.Directory, want)
	}
	m.told[f.Directory][seat] = f.Resync
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

// refold folds the streams from the start, interleaved otherwise, and compares.
func (m *model) refold(t *rapid.T) {
	fresh := NewState()
	streams := rapid.Permutation([]string{
		events.StreamPools, events.StreamDirectories, events.StreamInstances, events.StreamNotifications, events.StreamPositions,
	}).Draw(t, "order")
	for _, s := range streams {
		for i, f := range m.log[s] {
			fresh.Evolve(uint64(i+1), f)
		}
	}
	if !reflect.DeepEqual(fresh, m.state) {
		t.Fatalf("a restart folds to another state")
	}
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

// checkForgotten demands that nobody who lives holds a directory that is not there, unless
// it said that it holds images.
func (m *model) checkForgotten(t *rapid.T, id events.DirectoryID) {
	if v := newView(m.state, id, m.now, ""); v != nil && v.keepsCopy() {
		return
	}
	for seat := range m.holds[id] {
		if m.isAlive(seat) {
			t.Fatalf("%+v holds %s, which was forgotten", seat, id)
		}
	}
}
