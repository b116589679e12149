package policy

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/fault"
)

// fleet is a site of many nodes and directories around the pure core: it does what the
// service does, and nodes answer at once. Time passes only when it is told to.
type fleet struct {
	t     testing.TB
	state *State
	log   map[string][]events.Fact // by stream
	now   events.Instant
	ops   int
	// stirred is set when something has happened that any directory may depend on.
	stirred bool
	alive   map[string]int // number of the incarnation
	begun   int
	// moves counts mappings of replicas away from a node that lived; releases and acquires
	// count what was asked.
	moves, releases, acquires int
	// owners are the incarnations that were asked to hold a directory and did not let go.
	owners map[events.DirectoryID]map[Seat]bool
	// refuses says what a node answers to an acquire.
	refuses func(events.Assignment) fault.Code
	failed  map[events.DirectoryID]int // acquires in a row
}

func newFleet(t testing.TB, nodes ...string) *fleet {
	f := &fleet{
		t: t, state: NewState(), log: map[string][]events.Fact{}, now: events.InstantOf(time.Unix(1_800_000_000, 0)),
		alive: map[string]int{}, owners: map[events.DirectoryID]map[Seat]bool{}, failed: map[events.DirectoryID]int{},
		refuses: func(events.Assignment) fault.Code { return "" },
	}
	for _, n := range nodes {
		f.join(n)
	}
	return f
}

// publish is something that happens besides what policy decides: all is looked at anew.
func (f *fleet) publish(stream string, fact events.Fact) {
	f.stirred = true
	f.fold(stream, fact)
}

func (f *fleet) fold(stream string, fact events.Fact) {
	f.log[stream] = append(f.log[stream], fact)
	f.state.Evolve(uint64(len(f.log[stream])), fact)
}

func (f *fleet) join(node string) {
	f.begun++
	f.alive[node] = f.begun
	for _, s := range []string{events.ServiceJournal, events.ServiceReplayer} {
		f.publish(events.StreamInstances, &events.InstanceAdded{Node: node, Service: s, Incarnation: fmt.Sprint(f.begun), At: f.now})
	}
}

func (f *fleet) die(node string) {
	inc := fmt.Sprint(f.alive[node])
	delete(f.alive, node)
	for _, s := range []string{events.ServiceJournal, events.ServiceReplayer} {
		f.publish(events.StreamInstances, &events.InstanceRemoved{Node: node, Service: s, Incarnation: inc, Reason: "silent", At: f.now})
	}
}

func (f *fleet) isAlive(s Seat) bool { return fmt.Sprint(f.alive[s.Node]) == s.Incarnation }

// track adds directories of a pool, by their number.
func (f *fleet) track(pool string, from, to int) {
	for i := from; i < to; i++ {
		f.publish(events.StreamDirectories, &events.DirectoryTracked{
			Directory: events.DirectoryID(fmt.Sprintf("%s-%05d", pool, i)), Pool: pool, Path: fmt.Sprintf("/d%d", i), At: f.now,
		})
	}
}

// step decides about a directory on a plan, as the service does, and lets the world answer.
// It reports whether anything came of it.
func (f *fleet) step(id events.DirectoryID) bool {
	f.ops++
	d := Decide(f.state, id, f.now, fmt.Sprintf("op-%d", f.ops))
	switch fact := d.Fact.(type) {
	case nil:
		return false
	case *events.DirectoryMapped:
		f.checkMove(fact)
		f.fold(d.Stream, fact)
	case *events.AcquireRequested:
		f.fold(d.Stream, fact)
		f.acquire(fact)
	case *events.ReleaseRequested:
		f.fold(d.Stream, fact)
		f.releases++
		delete(f.owners[id], seatOf(fact.Assignment))
		f.fold(events.StreamNotifications, &events.ReleaseAcknowledged{Assignment: fact.Assignment, Quiesced: true, At: f.now})
	default:
		f.fold(d.Stream, fact)
	}
	return true
}

// finish takes all steps of a directory that can be taken now.
func (f *fleet) finish(id events.DirectoryID) {
	for {
		if !f.step(id) {
			return
		}
	}
}

// checkMove demands that a replica leaves a node that lives only when its throttle is over,
// or when it fails there, and that it goes from more to less.
func (f *fleet) checkMove(to *events.DirectoryMapped) {
	from := f.state.Directories[to.Directory].Mapping
	if from.Epoch == 0 || from.Node == to.Node || f.alive[from.Node] == 0 || f.failed[to.Directory] >= moveAfter {
		return
	}
	f.moves++
	if throttle := f.state.Placement.Throttle; f.now.Sub(from.At) < throttle && f.now.Sub(from.At) > -throttle { // else the clock was put back
		f.t.Fatalf("%s moves from %s %s after it came", to.Directory, from.Node, f.now.Sub(from.At))
	}
	p := f.state.Spreads[events.ServiceReplayer]
	if a, b := p.share(from.Node), p.share(to.Node); a.Weight <= b.Weight {
		f.t.Fatalf("%s moves from %+v to %+v", to.Directory, a, b)
	}
}

func (f *fleet) acquire(r *events.AcquireRequested) {
	seat := seatOf(r.Assignment)
	f.acquires++
	for other := range f.owners[r.Directory] {
		if other != seat && f.isAlive(other) {
			f.t.Fatalf("%+v is asked to acquire %s, which %+v holds", seat, r.Directory, other)
		}
	}
	code := f.refuses(r.Assignment)
	if f.failed[r.Directory]++; code == "" {
		f.owners[r.Directory] = map[Seat]bool{seat: true}
		delete(f.failed, r.Directory)
	}
	f.fold(events.StreamNotifications, &events.AcquireAcknowledged{Assignment: r.Assignment, Code: string(code), At: f.now})
}

// settle lets everything happen that happens now, and returns when the next thing will.
func (f *fleet) settle() (wake events.Instant) {
	for {
		due, next := f.state.Rebalance(f.now)
		if wake = next; !f.stirred && len(due) == 0 {
			return wake
		}
		if f.stirred {
			f.stirred = false
			due = slices.Sorted(maps.Keys(f.state.Directories))
		}
		for _, id := range due {
			f.finish(id)
		}
	}
}

// until lets time pass, and everything happen that is due meanwhile.
func (f *fleet) until(end events.Instant) {
	for wake := f.settle(); wake > 0 && wake <= end; wake = f.settle() {
		f.now = max(wake, f.now+1)
	}
	f.now = max(f.now, end)
	f.settle()
}

func (f *fleet) pass(d time.Duration) { f.until(f.now + events.Instant(d)) }

// counts returns how many replicas each live node holds, by name.
func (f *fleet) counts(in func(*Directory) bool) []int {
	byNode := map[string]int{}
	for n := range f.alive {
		byNode[n] = 0
	}
	for _, d := range f.state.Directories {
		if _, lives := byNode[d.Mapping.Node]; lives && in(d) {
			byNode[d.Mapping.Node]++
		}
	}
	var n []int
	for _, node := range slices.Sorted(maps.Keys(byNode)) {
		n = append(n, byNode[node])
	}
	return n
}

func all(*Directory) bool { return true }

func ofPool(pool string) func(*Directory) bool {
	return func(d *Directory) bool { return d.Name.Pool == pool }
}

// refold folds the streams in another order, as a restart may, and compares.
func (f *fleet) refold() {
	f.t.Helper()
	fresh := NewState()
	for _, stream := range []string{events.StreamNotifications, events.StreamPositions, events.StreamInstances, events.StreamDirectories, events.StreamPools} {
		for i, fact := range f.log[stream] {
			fresh.Evolve(uint64(i+1), fact)
		}
	}
	if !reflect.DeepEqual(fresh, f.state) {
		f.t.Fatal("a restart folds to another state")
	}
}
