package workload

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// forkNumbers is how many numbers of writes one side of a fork leaves to the other: more
// than any run makes.
const forkNumbers = 1 << 32

// Fork parts a history in two, as a promotion by force does: the workload returned goes on
// from all that was noted so far, and this one from what a verifier was shown, as after
// [Workload.Continue]. Both may be written to from now on, each at a place of its own;
// no block of the one is taken for one of the other. The writes in flight are those of
// the workload that is returned.
func (w *Workload) Fork(v *Verifier) *Workload {
	w.mu.Lock()
	apart := &Workload{
		cfg: w.cfg, unit: w.unit, blocks: w.blocks,
		random: rand.New(rand.NewPCG(w.random.Uint64(), 0)),
		clock:  w.clock, base: w.base, before: w.before, log: slices.Clone(w.log),
		safe: w.safe, written: w.written, bytes: w.bytes,
	}
	for _, busy := range w.busy {
		apart.busy = append(apart.busy, maps.Clone(busy))
	}
	w.mu.Unlock()
	w.Continue(v)
	w.mu.Lock()
	w.before += forkNumbers
	w.mu.Unlock()
	return apart
}
