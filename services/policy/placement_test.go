package policy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
)

func spreadOf(counts []int) int { return slices.Max(counts) - slices.Min(counts) }

// directories 97, 123: a node joins, and the surplus moves to it and nothing else. The
// reference lets go of one more where the number is odd, and takes it back.
func TestOnlyTheSurplusMoves(t *testing.T) {
	for _, c := range []struct{ directories, moves int }{{1, 0}, {2, 1}, {4, 2}, {5, 2}, {6, 3}, {10, 5}, {14, 7}} {
		f := newFleet(t, "a")
		f.track("p", 0, c.directories)
		f.settle()
		f.pass(DefaultThrottle)
		f.join("b")
		f.settle()
		if f.moves != c.moves || f.releases != c.moves || f.acquires != c.directories+c.moves {
			t.Errorf("%d directories: %d moved, %d released, %d acquired; want %d moves", c.directories, f.moves, f.releases, f.acquires, c.moves)
		}
		if n := f.counts(all); spreadOf(n) > 1 {
			t.Errorf("%d directories end as %v", c.directories, n)
		}
		f.pass(10 * DefaultThrottle) // nothing bounces
		if f.moves != c.moves {
			t.Errorf("%d directories: %d moves in the end", c.directories, f.moves)
		}
		f.refold()
	}
}

// Whatever lies where: as many moves as an even spread needs, and no more.
func TestNoMoreMovesThanNeeded(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		n := 2 + random.IntN(5)
		f := newFleet(t)
		have, total := make([]int, n), 0
		for i := range n {
			f.join(fmt.Sprintf("n%d", i))
			have[i] = random.IntN(12)
			for range have[i] {
				f.track("p", total, total+1)
				f.publish(events.StreamDirectories, &events.DirectoryMapped{
					Directory: events.DirectoryID(fmt.Sprintf("p-%05d", total)), Pool: "p", Node: fmt.Sprintf("n%d", i), Role: events.Slave, Epoch: 1, At: f.now,
				})
				total++
			}
		}
		f.settle()
		f.pass(DefaultThrottle)
		slices.SortFunc(have, func(a, b int) int { return b - a })
		needed := 0
		for i, h := range have {
			part := total / n
			if i < total%n {
				part++
			}
			needed += max(0, h-part)
		}
		if f.moves != needed || spreadOf(f.counts(all)) > 1 {
			t.Errorf("%v: %d moves, %d are needed; they end as %v", have, f.moves, needed, f.counts(all))
		}
	}
}

// directories 111: within the throttle a node that joins gets nothing; when it ends the
// rebalance takes place without any further event. It is told from the log alone.
func TestThrottleEndsByItself(t *testing.T) {
	f := newFleet(t, "a")
	f.track("p", 0, 10)
	f.settle()
	f.now += events.Instant(100 * time.Second)
	f.join("b")
	wake := f.settle()
	if f.moves != 0 || !reflect.DeepEqual(f.counts(all), []int{10, 0}) {
		t.Fatalf("within the throttle: %d moves, %v", f.moves, f.counts(all))
	}
	if left := wake.Sub(f.now); left != DefaultThrottle-100*time.Second {
		t.Fatalf("the rebalance is looked at again in %s", left)
	}
	before := len(f.log[events.StreamInstances]) + len(f.log[events.StreamPools])
	f.until(wake)
	if f.moves != 5 || !reflect.DeepEqual(f.counts(all), []int{5, 5}) {
		t.Errorf("afterwards: %d moves, %v", f.moves, f.counts(all))
	}
	if after := len(f.log[events.StreamInstances]) + len(f.log[events.StreamPools]); after != before {
		t.Error("something happened besides")
	}
	// A third one joins: what has just moved stays. The reference ends at 4/7/3 here for ever.
	f.join("c")
	f.settle()
	f.pass(2 * DefaultThrottle)
	if n := f.counts(all); spreadOf(n) > 1 {
		t.Errorf("three nodes end as %v", n)
	}
}

// A clock that is put back by hours does not keep a replica where it is for hours.
func TestThrottleWhenTheClockIsPutBack(t *testing.T) {
	f := newFleet(t, "a")
	f.now += events.Instant(10 * time.Hour)
	f.track("p", 0, 10)
	f.settle()
	f.now -= events.Instant(5 * time.Hour)
	f.join("b")
	f.settle()
	f.pass(2 * DefaultThrottle)
	if n := f.counts(all); !reflect.DeepEqual(n, []int{5, 5}) {
		t.Errorf("it ends as %v", n)
	}
}

// The throttle is the operator's: any time, or none at all.
func TestThrottleIsSet(t *testing.T) {
	for _, throttle := range []time.Duration{0, -1, time.Second, time.Hour} {
		f := newFleet(t, "a")
		f.publish(events.StreamPools, &events.PlacementConfigured{Throttle: throttle, By: events.BalanceCount})
		f.track("p", 0, 6)
		f.settle()
		f.join("b")
		wake := f.settle()
		if throttle <= 0 {
			if f.moves != 3 {
				t.Errorf("without a throttle %d moved", f.moves)
			}
			continue
		}
		if f.moves != 0 || wake.Sub(f.now) != throttle {
			t.Errorf("throttle %s: %d moved, and the next in %s", throttle, f.moves, wake.Sub(f.now))
		}
		f.until(wake)
		if f.moves != 3 {
			t.Errorf("after %s %d moved", throttle, f.moves)
		}
	}
}

// directories 112, 124, 143: a node dies, and what it had is mapped elsewhere at once, with a
// higher epoch; what the others had stays.
func TestFailOverIgnoresTheThrottle(t *testing.T) {
	f := newFleet(t, "a", "b", "c")
	f.track("p", 0, 9)
	f.settle()
	f.die("b")
	f.settle()
	if f.moves != 0 || f.acquires != 12 {
		t.Errorf("%d moves, %d acquires", f.moves, f.acquires)
	}
	if n := f.counts(all); spreadOf(n) > 1 {
		t.Errorf("they lie as %v", n)
	}
	for id, d := range f.state.Directories {
		if d.Mapping.Node == "b" || !newView(f.state, id, f.now, "").settled() {
			t.Errorf("%s: %+v", id, d.Mapping)
		}
	}
	f.join("b") // again: they come back when the throttle ends, three of them
	f.pass(DefaultThrottle)
	if f.moves != 3 || spreadOf(f.counts(all)) > 0 {
		t.Errorf("%d moved back, %v", f.moves, f.counts(all))
	}
	f.refold()
}

// directories 83, 86, 107: all nodes die, and the first that joins gets everything at once.
func TestStalledDirectoriesStartWhenANodeAppears(t *testing.T) {
	f := newFleet(t)
	f.track("p", 0, 4)
	f.settle()
	if !Decide(f.state, "p-00000", f.now, "").Stalled {
		t.Error("they are not stalled")
	}
	f.join("a")
	f.settle()
	f.die("a")
	f.settle()
	f.join("b")
	f.settle()
	if n := f.counts(all); !reflect.DeepEqual(n, []int{4}) {
		t.Errorf("they lie as %v", n)
	}
}

// directories 139: 36 directories of three pools over four nodes are 9/9/9/9, and each pool
// lies as evenly as it can; every one has exactly one owner, which was asked.
func TestGlobalBalance(t *testing.T) {
	f := newFleet(t, "daemon.0", "daemon.1", "daemon.2", "daemon.3")
	for i, n := range []int{7, 5, 6, 7, 5, 6} { // two peers of each pool, in the reference
		f.track(fmt.Sprintf("pool%d", i/2), 100*i, 100*i+n)
	}
	f.settle()
	if n := f.counts(all); !reflect.DeepEqual(n, []int{9, 9, 9, 9}) {
		t.Errorf("they lie as %v", n)
	}
	for pool, want := range map[string][]int{"pool0": {3, 3, 3, 3}, "pool1": {3, 3, 3, 4}, "pool2": {2, 3, 3, 3}} {
		n := f.counts(ofPool(pool))
		if slices.Sort(n); !reflect.DeepEqual(n, want) {
			t.Errorf("%s lies as %v, want %v", pool, n, want)
		}
	}
	for id, d := range f.state.Directories {
		seat := Seat{d.Mapping.Node, events.ServiceReplayer, fmt.Sprint(f.alive[d.Mapping.Node])}
		if !reflect.DeepEqual(f.owners[id], map[Seat]bool{seat: true}) {
			t.Errorf("%s is mapped to %+v and held by %v", id, d.Mapping, f.owners[id])
		}
	}
	if f.acquires != 36 || f.moves != 0 {
		t.Errorf("%d acquires, %d moves", f.acquires, f.moves)
	}
}

// directories 140: of equals the first by name.
func TestTie(t *testing.T) {
	f := newFleet(t, "daemon.3", "daemon.1", "daemon.0", "daemon.2")
	f.track("p", 0, 1)
	f.settle()
	if n := f.counts(all); !reflect.DeepEqual(n, []int{1, 0, 0, 0}) {
		t.Errorf("it lies as %v", n)
	}
}

// A master's data lies at its node: balance leaves it there, and a replica that is promoted
// stays where its copy is.
func TestMastersStay(t *testing.T) {
	f := newFleet(t, "a")
	for i := range 6 {
		f.publish(events.StreamDirectories, &events.DirectoryCreated{
			Directory: events.DirectoryID(fmt.Sprint(i)), Pool: "p", Path: fmt.Sprintf("/m%d", i),
		})
	}
	f.track("p", 10, 12)
	f.settle()
	f.publish(events.StreamDirectories, &events.PromotionRequested{Directory: "p-00010", Pool: "p"})
	f.settle()
	f.join("b")
	f.pass(10 * DefaultThrottle)
	for id, d := range f.state.Directories {
		if d.Mapping.Role == events.Master && d.Mapping.Node != "a" {
			t.Errorf("%s went to %+v", id, d.Mapping)
		}
	}
}

// A replica that is being filled is not moved: it would begin again.
func TestIncompleteCopiesStay(t *testing.T) {
	f := newFleet(t, "a")
	f.track("p", 0, 4)
	f.settle()
	measure := func(complete bool) {
		for id := range f.state.Directories {
			f.publish(events.StreamPositions, &events.DirectoryMeasured{Directory: id, Node: "a", Complete: complete, At: f.now})
		}
	}
	measure(false)
	f.join("b")
	f.pass(2 * DefaultThrottle)
	if f.moves != 0 {
		t.Errorf("%d moved", f.moves)
	}
	measure(true)
	f.settle()
	if f.moves != 2 {
		t.Errorf("%d moved when they were complete", f.moves)
	}
}

// directories 101, 102: the node that a replica moves to dies before it has answered.
func TestMoveToANodeThatDies(t *testing.T) {
	f := newFleet(t, "a")
	f.track("p", 0, 2)
	f.settle()
	f.pass(DefaultThrottle)
	f.join("b")
	f.refuses = func(a events.Assignment) fault.Code {
		if a.Node != "b" {
			return ""
		}
		f.refuses = func(events.Assignment) fault.Code { return "" }
		f.die("b")
		return fault.Fenced // by the notifier
	}
	f.settle()
	if n := f.counts(all); !reflect.DeepEqual(n, []int{2}) {
		t.Errorf("they lie as %v", n)
	}
	for id := range f.state.Directories {
		if v := newView(f.state, id, f.now, ""); !v.settled() {
			t.Errorf("%s is not held", id)
		}
	}
}

// directories 104: an acquire that fails at a live node is tried again with growing pauses,
// and then elsewhere; where it was tried elsewhere in vain it is not held twice.
func TestFailingNodeIsLeft(t *testing.T) {
	f := newFleet(t, "a", "b")
	f.refuses = func(a events.Assignment) fault.Code {
		if a.Node == "a" {
			return fault.NoSpace
		}
		return ""
	}
	f.track("p", 0, 4)
	for range 40 {
		f.settle()
		f.now += events.Instant(30 * time.Second)
		f.stirred = true
	}
	if n := f.counts(func(d *Directory) bool { return newView(f.state, d.ID, f.now, "").settled() }); n[1] < 2 || n[0] != 0 {
		t.Errorf("held by the nodes: %v", n)
	}
	asked := f.acquires
	if asked > 100 {
		t.Errorf("%d acquires", asked)
	}
}

// Simulated weeks of a large site: nodes come and go, and every balance is found and kept.
func TestPlacementSimulation(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	for _, by := range []events.Balance{events.BalanceCount, events.BalanceSize, events.BalanceWrites} {
		if sitetest.RaceDetector && by != events.BalanceWrites {
			continue // nothing in it is concurrent
		}
		t.Run(string(by), func(t *testing.T) { simulate(t, by, rand.New(rand.NewPCG(seed, 2))) })
	}
}

func simulate(t *testing.T, by events.Balance, random *rand.Rand) {
	const directories, nodes = 2000, 12
	f := newFleet(t)
	f.publish(events.StreamPools, &events.PlacementConfigured{Throttle: DefaultThrottle, By: by})
	for i := range nodes {
		f.join(fmt.Sprintf("n%02d", i))
	}
	f.track("p", 0, directories)
	f.settle()
	told := map[events.DirectoryID]*events.DirectoryMeasured{}
	real := map[events.DirectoryID]float64{}
	for _, id := range slices.Sorted(maps.Keys(f.state.Directories)) {
		real[id] = float64(uint64(1) << (20 + random.IntN(14))) // 1 MiB to 8 GiB
	}
	f.measure(told, real, random)
	f.pass(3 * DefaultThrottle)
	for range 8 {
		node := fmt.Sprintf("n%02d", random.IntN(nodes))
		if f.alive[node] > 0 {
			f.die(node)
		} else {
			f.join(node)
		}
		f.pass(time.Duration(random.IntN(900)) * time.Second)
		f.measure(told, real, random)
	}
	for range 3 { // who takes a replica over measures it anew
		f.measure(told, real, random)
		f.pass(3 * DefaultThrottle)
	}
	f.checkBalanced(by)
	moves := f.moves
	for range 10 { // nothing happens but that measures waver
		f.pass(2 * events.MeasureEvery)
		f.measure(told, real, random)
	}
	if f.moves != moves {
		t.Errorf("%d moved while nothing happened", f.moves-moves)
	}
	f.refold()
	t.Logf("%d moves for balance, %d acquires", f.moves, f.acquires)
}

// measure has each holder measure, up to a fifth beside what is so, and tell what is worth it.
func (f *fleet) measure(told map[events.DirectoryID]*events.DirectoryMeasured, real map[events.DirectoryID]float64, random *rand.Rand) {
	for _, id := range slices.Sorted(maps.Keys(f.state.Directories)) {
		d := f.state.Directories[id]
		m := &events.DirectoryMeasured{
			Directory: id, Client: "west." + d.Mapping.Node, Node: d.Mapping.Node, Complete: true, At: f.now,
			Bytes: uint64(real[id] * (0.8 + 0.4*random.Float64())), Rate: uint64(real[id] / 1000 * (0.8 + 0.4*random.Float64())),
		}
		if last := told[id]; last == nil || last.Node != m.Node || m.Worth(last) {
			told[id] = m
			f.publish(events.StreamPositions, m)
		}
	}
}

func (f *fleet) checkBalanced(by events.Balance) {
	f.t.Helper()
	if by == events.BalanceCount {
		if n := f.counts(all); spreadOf(n) > 1 {
			f.t.Errorf("they lie as %v", n)
		}
		return
	}
	p := f.state.Spreads[events.ServiceReplayer]
	nodes, total := p.live()
	heaviest := uint64(0)
	for id := range f.state.Directories {
		heaviest = max(heaviest, f.state.weight(id))
	}
	for _, h := range p {
		if mean := total / uint64(nodes); h.Alive && (h.Weight > mean+mean/4+2*heaviest || h.Weight+mean/4+2*heaviest < mean) {
			f.t.Errorf("%s has %d, the mean is %d and the heaviest directory %d", h.Node, h.Weight, mean, heaviest)
		}
	}
}

// A node that a replica has left keeps its copy, and deletes it when the directory is removed:
// at once if it lives, else when it is back.
func TestCopiesLeftBehind(t *testing.T) {
	for _, dead := range []bool{false, true} {
		s := held(t, tracked())
		s.fold(up("b", "1")...)
		s.fold(&events.DirectoryMapped{Directory: "d", Pool: "p", Node: "b", Role: events.Slave, Epoch: 2})
		s.acknowledge(s.step("superseded holder"), "")
		acquire := s.step("acquire").(*events.AcquireRequested)
		if acquire.Node != "b" || !acquire.Elsewhere {
			t.Errorf("acquire %+v", acquire)
		}
		s.acknowledge(acquire, "")
		s.step("held")
		if dead {
			s.fold(down("a", "1")...)
		}
		s.fold(removed())
		s.acknowledge(s.step("remove from holder"), "")
		if dead {
			s.step("forget")
			s.step("forgotten")
			s.fold(up("a", "2")...)
		}
		release := s.step("remove other copy").(*events.ReleaseRequested)
		if release.Node != "a" || !release.Remove || release.Demote {
			t.Errorf("release %+v", release)
		}
		s.acknowledge(release, "")
		if !dead {
			s.step("forget")
		}
		s.step("forgotten")
	}
	// Who alone has had it is told that nobody else has.
	s := held(t, tracked())
	s.fold(up("a", "2")...)
	for {
		f := Decide(s.state, "d", s.now, "op").Fact
		if a, ok := f.(*events.AcquireRequested); ok {
			if a.Elsewhere {
				t.Errorf("acquire %+v", a)
			}
			return
		}
		s.fold(f)
	}
}

// A master whose node dies goes where a copy is, if one is anywhere; where it went to a node
// without one, and cannot be opened there, it goes back as soon as its node does.
func TestMasterGoesToACopy(t *testing.T) {
	s := held(t, created())
	s.fold(down("a", "1")...)
	s.fold(up("c", "1")...)
	s.step("fence")
	if f := s.step("map").(*events.DirectoryMapped); f.Node != "c" {
		t.Fatalf("mapped %+v", f)
	}
	s.acknowledge(s.step("acquire"), fault.Corrupt) // its journal begins too late
	s.fold(up("a", "2")...)
	if f := s.step("return to the copy").(*events.DirectoryMapped); f.Node != "a" || f.Role != events.Master {
		t.Fatalf("mapped %+v", f)
	}
	s.acknowledge(s.step("acquire"), "")
	s.step("held")
	// A replica was at b, and is promoted at a: when a dies, b has the next best copy.
	s = held(t, tracked())
	s.fold(up("b", "1")...)
	s.fold(&events.DirectoryMapped{Directory: "d", Pool: "p", Node: "b", Role: events.Slave, Epoch: 2})
	s.acknowledge(s.step("superseded holder"), "")
	s.acknowledge(s.step("acquire"), "")
	s.fold(promote(false))
	s.acknowledge(s.step("let go of the old role"), "")
	s.step("map in the new role")
	s.acknowledge(s.step("acquire"), "")
	s.fold(up("A", "1")...) // has nothing, and would be first
	s.fold(down("b", "1")...)
	s.step("fence")
	if f := s.step("map").(*events.DirectoryMapped); f.Node != "a" {
		t.Fatalf("mapped %+v", f)
	}
}

// A master whose node dies goes to a node that had it before; where the copy there turns out to
// be too old, it goes back as soon as the node with the newest one lives.
func TestMasterReturnsToTheNewestCopy(t *testing.T) {
	s := held(t, tracked()) // at a
	s.fold(up("b", "1")...)
	s.fold(&events.DirectoryMapped{Directory: "d", Pool: "p", Node: "b", Role: events.Slave, Epoch: 2})
	s.acknowledge(s.step("superseded holder"), "")
	s.acknowledge(s.step("acquire"), "")
	s.fold(promote(false))
	s.acknowledge(s.step("let go of the old role"), "")
	s.step("map in the new role")
	s.acknowledge(s.step("acquire"), "")
	s.fold(down("b", "1")...)
	s.step("fence")
	if f := s.step("map").(*events.DirectoryMapped); f.Node != "a" {
		t.Fatalf("mapped %+v", f)
	}
	s.acknowledge(s.step("acquire"), fault.Corrupt) // the journal begins too late for it
	s.now += events.Instant(retryMax)
	s.acknowledge(s.step("acquire"), fault.Corrupt)
	s.fold(up("b", "2")...)
	if f := s.step("return to the copy").(*events.DirectoryMapped); f.Node != "b" || f.Role != events.Master {
		t.Fatalf("mapped %+v", f)
	}
	s.acknowledge(s.step("acquire"), fault.Corrupt)
	s.now += events.Instant(retryMax)
	s.acknowledge(s.step("acquire"), "") // it does not bounce
	s.step("held")
}

// A site that loses its primary while a replica is on its way to another node still has a
// complete copy, at the node that it left: a forced promotion goes there. One that waits for
// consent does not: what it needs can still come.
func TestForcedPromotionGoesToACompleteCopy(t *testing.T) {
	moving := func(t *testing.T) *script {
		s := held(t, tracked())
		s.fold(&events.DirectoryMeasured{Directory: "d", Node: "a", Complete: true})
		s.fold(up("b", "1")...)
		s.fold(&events.DirectoryMapped{Directory: "d", Pool: "p", Node: "b", Role: events.Slave, Epoch: 2})
		s.acknowledge(s.step("superseded holder"), "")
		s.acknowledge(s.step("acquire"), "")
		s.step("held")
		return s
	}
	for _, c := range []struct {
		name     string
		measured []events.Fact
		force    bool
		node     string
	}{
		{"in its first sync", []events.Fact{&events.DirectoryMeasured{Directory: "d", Node: "b"}}, true, "a"},
		{"not measured yet", nil, true, "a"},
		{"complete", []events.Fact{&events.DirectoryMeasured{Directory: "d", Node: "b", Complete: true}}, true, "b"},
		{"in order", []events.Fact{&events.DirectoryMeasured{Directory: "d", Node: "b"}}, false, "b"},
		{"the other is dead", append(down("a", "1"), &events.DirectoryMeasured{Directory: "d", Node: "b"}), true, "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := moving(t)
			s.fold(c.measured...)
			s.fold(promote(c.force))
			release := s.step("let go of the old role").(*events.ReleaseRequested)
			if release.Node != "b" {
				t.Errorf("release %+v", release)
			}
			s.acknowledge(release, "")
			if f := s.step("map in the new role").(*events.DirectoryMapped); f.Node != c.node || f.Role != events.Master {
				t.Errorf("mapped %+v", f)
			}
			if f := s.step("acquire").(*events.AcquireRequested); f.Node != c.node || f.Promote == "" {
				t.Errorf("acquire %+v", f)
			}
		})
	}
}
