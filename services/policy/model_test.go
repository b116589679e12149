package policy

import (
	"fmt"
	"reflect"

	"pgregory.net/rapid"

	"tidemark/events"
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
