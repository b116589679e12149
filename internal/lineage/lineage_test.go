package lineage

import (
	"math/rand/v2"
	"testing"

	"tidemark/events"
)

// Random trees of histories: claims, demotions, promotions, forced ones, forks at any
// entry, power failures, resets, removals, copies that know only the newest tags. What is
// said of any two sites is so, or is not known because something was forgotten.
// journal 218, journal 287: whoever holds a part of the other's history is linked to it.
func TestRelationsAgainstTree(t *testing.T) {
	seen := map[Kind]int{}
	for seed := range uint64(150) {
		w := newWorld(seed, 3)
		for range 150 {
			w.step()
			a, b := w.at[w.rand.IntN(3)], w.at[w.rand.IntN(3)]
			seen[check(t, a, b, 0, 0, true)]++
			seen[check(t, a, b, w.rand.IntN(6), w.rand.IntN(6), w.rand.IntN(2) == 0)]++
		}
	}
	for _, kind := range []Kind{Same, Behind, Ahead, Diverged, Unknown, OtherLife} {
		if seen[kind] < 100 {
			t.Errorf("%s came %d times: the test does not test it", kind, seen[kind])
		}
	}
}

// turn demotes the owner and promotes another site, which has received it.
func (w *world) turn(from, to int) {
	w.claim(from, events.TagDemoted)
	w.at[to] = w.at[from]
	w.claim(to, events.TagPromoted)
}

// journal 288, journal 289, journal 290, rivals 2: twenty rounds of fail-over and fail-back,
// with writes and without, are no split brain at any moment, wherever the follower stands.
func TestTwentyRoundsAreNoSplitBrain(t *testing.T) {
	for _, writes := range []int{0, 3} {
		for seed := range uint64(50) {
			w := newWorld(seed, 2)
			w.claim(0, events.TagOpened)
			owner := 0
			for range 20 {
				for range writes {
					w.write(owner)
				}
				w.turn(owner, 1-owner)
				owner = 1 - owner
				// The former owner lags behind, as far as it likes.
				for n := w.at[owner]; n != nil; n = n.parent {
					if kind := check(t, n, w.at[owner], 0, 0, true); kind != Same && kind != Behind {
						t.Fatalf("seed %d: %s", seed, kind)
					}
				}
				w.at[1-owner] = w.at[owner]
			}
		}
	}
}

// rivals 3: a copy whose last tag the other side has forgotten is not known to have parted.
func TestForgottenIsNotSplitBrain(t *testing.T) {
	w := newWorld(1, 1)
	w.claim(0, events.TagOpened)
	w.write(0)
	w.write(0)
	old := w.at[0].parent
	for range 300 {
		w.claim(0, events.TagOpened)
		w.write(0)
	}
	if kind := check(t, old, w.at[0], 0, 256, true); kind != Unknown {
		t.Errorf("a copy in a tag that the other has forgotten is %s", kind)
	}
	if kind := check(t, old, w.at[0], 0, 0, true); kind != Behind {
		t.Errorf("with all tags it is %s", kind)
	}
	if kind := check(t, old, w.at[0], 0, 1, true); kind != Unknown {
		t.Errorf("without the claim of its own tag it is %s", kind)
	}
	// What was forgotten ends exactly where the copy does: the first tag says so.
	end := w.at[0].parent.parent
	if kind := check(t, end, w.at[0], 0, 300, true); kind != Behind {
		t.Errorf("at the mark that the first known tag continues it is %s", kind)
	}
}

// The same position with another chain is another history, never a caught-up copy.
func TestSamePositionOtherChain(t *testing.T) {
	claim := events.TagClaimed{Tag: 4097, Mark: events.Mark{Position: events.At(4097, 0), Chain: 7}}
	end := events.Mark{Position: events.At(4097, 5), Chain: 8, Entries: 5, Bytes: 500}
	other := end
	other.Chain = 9
	tags := []events.TagClaimed{claim}
	r := Compare(History{"", tags, end}, History{"", tags, other})
	if r.Kind != Diverged || r.Exact || !r.Common.Same(claim.Mark) {
		t.Errorf("%+v", r)
	}
	if v := Decide(History{"", tags, end}, History{"", tags, other}, r, Owns); v != Parted {
		t.Errorf("entries are held to be none: %s", v)
	}
}

// A site that came back and claimed a tag has parted from the one that was promoted over
// it, but has nothing to lose.
func TestClaimsOnly(t *testing.T) {
	w := newWorld(1, 2)
	w.claim(0, events.TagOpened)
	w.write(0)
	w.at[1] = w.at[0]
	w.claim(0, events.TagOpened)
	w.claim(0, events.TagDemoted)
	w.claim(1, events.TagForced)
	w.write(1)
	r := Compare(history(w.at[0], 0), history(w.at[1], 0))
	if r.Kind != Diverged || !r.Ours.ClaimsOnly() || len(r.Ours.Tags) != 2 || len(r.Theirs.Tags) != 1 {
		t.Errorf("%+v", r)
	}
	if Compare(history(w.at[1], 0), history(w.at[0], 0)).Ours.ClaimsOnly() {
		t.Error("the side that wrote has nothing to lose")
	}
}

// What another site says may be anything: tags out of order, marks that cannot be.
func TestNonsenseIsNoPanic(*testing.T) {
	random := rand.New(rand.NewPCG(1, 9))
	mark := func() events.Mark {
		return events.Mark{
			Position: events.At(events.Tag(random.IntN(4)-1), uint32(random.IntN(3)-1)), Chain: events.Chain(random.IntN(3)),
			Entries: random.Uint64() >> random.IntN(64), Bytes: uint64(random.IntN(3)),
		}
	}
	nonsense := func() (h History) {
		for range random.IntN(5) {
			h.Tags = append(h.Tags, events.TagClaimed{Tag: events.Tag(random.IntN(4) - 1), Predecessor: mark(), Mark: mark()})
		}
		h.End = mark()
		return h
	}
	for range 100_000 {
		ours, theirs := nonsense(), nonsense()
		Decide(ours, theirs, Compare(ours, theirs), Authority(random.IntN(3)))
	}
}

// A claim that gives up what a journal had lost is more than a claim: the images behind it may
// hold parts of that.
func TestLostTailIsNoMereClaim(t *testing.T) {
	for reason, want := range map[events.TagReason]bool{events.TagOpened: true, events.TagReset: true, events.TagLost: false} {
		if r := (Rest{Tags: []events.TagClaimed{{Tag: 1, Reason: reason}}}); r.ClaimsOnly() != want {
			t.Errorf("%s is a mere claim: %v", reason, !want)
		}
	}
}
