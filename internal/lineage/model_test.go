package lineage

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"tidemark/events"
)

// node is the end of one message in the tree of all that was ever written.
type node struct {
	parent *node
	life   string
	claim  *events.TagClaimed // nil for a batch
	mark   events.Mark
	depth  int
}

// world is sites that write, follow and fail as they like.
type world struct {
	rand  *rand.Rand
	at    []*node // where each site stands; nil: nothing was written
	owner []bool  // who writes in the tag that it claimed last
	lives int
	chain events.Chain
}

func (w *world) next(parent *node, mark events.Mark, claim *events.TagClaimed) *node {
	w.chain++
	mark.Chain = w.chain * 0x9e3779b97f4a7c15
	n := &node{parent: parent, mark: mark, claim: claim}
	if parent != nil {
		n.life, n.depth = parent.life, parent.depth+1
	}
	if claim != nil {
		claim.Mark = mark
	}
	return n
}

// claim has a site claim a tag behind what it holds, for whatever reason.
func (w *world) claim(site int, reason events.TagReason) {
	claim, before := &events.TagClaimed{Reason: reason, Site: fmt.Sprint(site)}, w.at[site]
	if before != nil {
		claim.Predecessor = before.mark
	}
	claim.Tag, _ = claim.Predecessor.Position.Tag().Next(uint16(site))
	mark := claim.Predecessor
	mark.Position = events.At(claim.Tag, 0)
	w.at[site] = w.next(before, mark, claim)
	if before == nil {
		w.lives++
		w.at[site].life = fmt.Sprint(w.lives)
	}
	w.owner[site] = reason != events.TagDemoted
}

func newWorld(seed uint64, sites int) *world {
	return &world{rand: rand.New(rand.NewPCG(seed, 1)), at: make([]*node, sites), owner: make([]bool, sites)}
}

func (w *world) write(site int) {
	n := w.at[site]
	mark, entries := n.mark, 1+w.rand.IntN(3)
	mark.Position += events.Position(entries)
	mark.Entries += uint64(entries)
	mark.Bytes += uint64(entries * 100)
	w.at[site] = w.next(n, mark, nil)
}

// receive brings a site forward along another one's history, to any message of it. A site
// that holds what the other lacks does not move.
func (w *world) receive(site, from int) {
	var path []*node
	for n := w.at[from]; n != w.at[site]; n = n.parent {
		if n == nil {
			return
		}
		path = append(path, n)
	}
	if len(path) > 0 {
		w.at[site], w.owner[site] = path[w.rand.IntN(len(path))], false
	}
}

// lose takes a suffix from a site, as a power failure does: it claims before it writes again.
func (w *world) lose(site int) {
	for n := w.at[site]; n != nil && n.parent != nil && w.rand.IntN(3) > 0; n = n.parent {
		w.at[site] = n.parent
	}
	w.claim(site, events.TagOpened)
}

func (w *world) step() {
	site, other := w.rand.IntN(len(w.at)), w.rand.IntN(len(w.at))
	switch r := w.rand.IntN(100); {
	case r < 40 && w.owner[site]:
		w.write(site)
	case r < 65:
		w.receive(site, other)
	case r < 72 && w.owner[site]:
		w.claim(site, events.TagDemoted)
	case r < 84 && (w.owner[site] || w.at[site] == nil):
		w.claim(site, events.TagOpened)
	case r < 90:
		w.claim(site, events.TagForced)
	case r < 93 && w.owner[site]:
		w.claim(site, events.TagReset)
	case r < 96 && w.at[site] != nil:
		w.lose(site)
	case r == 99:
		w.at[site], w.owner[site] = nil, false // removed, and created or copied anew
	}
}

// history is what a site that stands at n knows, without the oldest claims.
func history(n *node, forget int) History {
	if n == nil {
		return History{}
	}
	h := History{ID: n.life, End: n.mark}
	for at := n; at != nil; at = at.parent {
		if at.claim != nil {
			h.Tags = append(h.Tags, *at.claim)
		}
	}
	slices.Reverse(h.Tags)
	h.Tags = h.Tags[min(forget, len(h.Tags)):]
	return h
}

// meet returns the last node that two histories hold, by walking both of them.
func meet(a, b *node) *node {
	for a != b {
		switch {
		case b == nil || a != nil && a.depth > b.depth:
			a = a.parent
		case a == nil || b.depth > a.depth:
			b = b.parent
		default:
			a, b = a.parent, b.parent
		}
	}
	return a
}

func markOf(n *node) events.Mark {
	if n == nil {
		return events.Mark{}
	}
	return n.mark
}

// truth is what Compare would say if nothing were forgotten.
func truth(a, b *node) (Kind, *node) {
	common := meet(a, b)
	switch {
	case a == b:
		return Same, a
	case common == a:
		return Behind, a
	case common == b:
		return Ahead, b
	case a.life != b.life:
		return OtherLife, nil
	}
	return Diverged, common
}

// check compares what is said about two sites with what is so.
func check(t *testing.T, a, b *node, forgotA, forgotB int, named bool) Kind {
	t.Helper()
	ours, theirs := history(a, forgotA), history(b, forgotB)
	if !named {
		ours.ID = ""
	}
	got := Compare(ours, theirs)
	want, common := truth(a, b)
	if want == OtherLife && !named { // all that can be seen is that nothing is common
		want = Diverged
	}
	whole := forgotA == 0 && forgotB == 0
	covered, covers := theirs.Covers(ours), want == Same || want == Behind
	fail := func(what string) {
		t.Helper()
		t.Fatalf("%s: %+v, want %s at %+v\nours   %+v\ntheirs %+v", what, got, want, markOf(common), ours, theirs)
	}
	if covered && !covers || whole && covers && !covered {
		fail("what one holds of the other is not what is said")
	}
	if got.Kind != want && (whole || got.Kind != Unknown) {
		fail("kind")
	}
	if got.Kind == Unknown || got.Kind == OtherLife {
		return got.Kind
	}
	if whole && !got.Exact {
		fail("not exact")
	}
	if got.Exact {
		if !got.Common.Same(markOf(common)) {
			fail("common mark")
		}
		if got.Ours.Entries != markOf(a).Entries-markOf(common).Entries || got.Theirs.Bytes != markOf(b).Bytes-markOf(common).Bytes {
			fail("amounts")
		}
	}
	if !within(markOf(common), got.Common) {
		fail("a common mark behind the last one")
	}
	back := Compare(theirs, ours)
	if mirror := map[Kind]Kind{Same: Same, Behind: Ahead, Ahead: Behind, Diverged: Diverged}; back.Kind != mirror[got.Kind] || back.Common != got.Common {
		fail("not the same from the other side")
	}
	return got.Kind
}

func within(end, m events.Mark) bool { return m.Position <= end.Position }
