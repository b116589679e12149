package policy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/sitetest"
)

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
