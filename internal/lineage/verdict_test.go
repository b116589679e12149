package lineage

import (
	"testing"

	"tidemark/events"
)

// writes counts the messages with entries on the way from a node down to one that it continues.
func writes(from, to *node) (n int) {
	for ; from != to; from = from.parent {
		if from.claim == nil {
			n++
		}
	}
	return n
}

// decide says what a site that stands at a does about a source that stands at b, and checks
// that against what is so: entries are never given up, and where both sides have some that is always
// seen.
func decide(t *testing.T, a, b *node, forgotA, forgotB int, source Authority) Verdict {
	t.Helper()
	ours, theirs := history(a, forgotA), history(b, forgotB)
	got := Decide(ours, theirs, Compare(ours, theirs), source)
	kind, common := truth(a, b)
	fail := func(what string) {
		t.Helper()
		t.Fatalf("%s: %s of a source of authority %d, which is %s\nours   %+v\ntheirs %+v", what, got, source, kind, ours, theirs)
	}
	if kind == OtherLife || kind == Same {
		return got
	}
	here, there := writes(a, common) > 0, writes(b, common) > 0
	parted := kind == Diverged && here && (there || source > Alone)
	whole := forgotA == 0 && forgotB == 0
	switch {
	case got == GiveUp && here:
		fail("entries are given up")
	case parted && got != Parted && got != Forgotten:
		fail("a split brain is not seen")
	case got == Parted && !parted && whole:
		fail("a false split brain")
	case parted && whole && got != Parted:
		fail("a split brain is taken for something forgotten")
	}
	return got
}

// Random trees of histories: entries are never given up, a split brain is always seen, and
// claims alone are none. journal 303, rivals 2, rivals 9.
func TestVerdictsAgainstTree(t *testing.T) {
	seen := map[Verdict]int{}
	for seed := range uint64(150) {
		w := newWorld(seed, 3)
		for range 150 {
			w.step()
			a, b := w.at[w.rand.IntN(3)], w.at[w.rand.IntN(3)]
			source := Authority(w.rand.IntN(3))
			seen[decide(t, a, b, 0, 0, source)]++
			seen[decide(t, a, b, w.rand.IntN(6), w.rand.IntN(6), source)]++
		}
	}
	for _, verdict := range []Verdict{Follow, GiveUp, Await, Parted, Forgotten, Foreign} {
		if seen[verdict] < 100 {
			t.Errorf("%s came %d times: the test does not test it", verdict, seen[verdict])
		}
	}
}

// Copies that have parted by claims alone, one of which perhaps has more entries, and that follow each
// other without a primary, in whatever order they look: all end with the history that had
// the most, and none shows a split brain.
func TestCopiesByThemselvesEndWithOneHistory(t *testing.T) {
	const sites = 4
	for seed := range uint64(500) {
		w := newWorld(seed, sites)
		w.claim(0, events.TagOpened)
		w.write(0)
		for site := range sites {
			w.at[site] = w.at[0]
		}
		if seed%2 == 0 {
			w.write(w.rand.IntN(sites))
		}
		for range w.rand.IntN(8) {
			w.claim(w.rand.IntN(sites), []events.TagReason{events.TagForced, events.TagDemoted, events.TagOpened}[w.rand.IntN(3)])
		}
		most := w.at[0]
		for _, n := range w.at {
			if Less(most.mark, n.mark) {
				most = n
			}
		}
		w.settle(t)
		for site, n := range w.at {
			if n != most {
				t.Fatalf("seed %d: site %d ends at %+v, and %+v held the most", seed, site, n.mark, most.mark)
			}
		}
	}
}

// settle has sites, in any order, do what is decided about the best of the others.
func (w *world) settle(t *testing.T) {
	t.Helper()
	for range 40 * len(w.at) {
		site := w.rand.IntN(len(w.at))
		best := -1
		for other, n := range w.at {
			if other != site && (best < 0 || Less(w.at[best].mark, n.mark)) {
				best = other
			}
		}
		switch decide(t, w.at[site], w.at[best], 0, 0, Alone) {
		case GiveUp:
			w.at[site] = meet(w.at[site], w.at[best])
		case Follow:
			w.at[site] = w.at[best]
		case Parted, Foreign, Forgotten:
			t.Fatal("a split brain by claims alone")
		case Await:
		}
	}
}

// A copy that holds what was claimed over the owner of its source's history gives that up, and
// nothing that the owner has claimed itself, which the source is yet to get.
func TestClaimsOverALivingOwner(t *testing.T) {
	for _, c := range []struct {
		name   string
		claim  func(*world)
		source Authority
		want   Verdict
	}{
		{"by force, over the primary", func(w *world) { w.claim(1, events.TagForced) }, Owns, GiveUp},
		{"by force, behind a follower of the primary", func(w *world) { w.claim(1, events.TagForced) }, Hears, GiveUp},
		{"by force, and nobody is primary", func(w *world) { w.claim(1, events.TagForced) }, Alone, Await},
		{"by force, and an entry", func(w *world) { w.claim(1, events.TagForced); w.write(1) }, Hears, Await},
		{"opened again", func(w *world) { w.claim(0, events.TagOpened); w.at[1] = w.at[0].parent; w.swap() }, Owns, Follow},
		{"opened again, behind a follower", func(w *world) { w.claim(0, events.TagOpened); w.at[1] = w.at[0].parent; w.swap() }, Hears, Await},
		{"handed over", func(w *world) { old := w.at[0]; w.turn(0, 1); w.at[0] = old }, Owns, Follow},
		{"handed over, behind a follower", func(w *world) { old := w.at[0]; w.turn(0, 1); w.at[0] = old }, Hears, Await},
	} {
		w := newWorld(1, 2)
		w.claim(0, events.TagOpened)
		w.write(0)
		w.at[1] = w.at[0]
		c.claim(w)
		if got := decide(t, w.at[1], w.at[0], 0, 0, c.source); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func (w *world) swap() { w.at[0], w.at[1] = w.at[1], w.at[0] }
