package policy

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/fault"
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
