package lineage

import (
	"slices"

	"tidemark/events"
)

// History is what one side knows of a directory's history.
type History struct {
	// ID tells the lives of directories of one name apart; empty: not known.
	ID string
	// Tags are the claims, oldest first. The oldest may be forgotten; none is left out
	// between the first and the last.
	Tags []events.TagClaimed
	// End is where the history ends; zero for one that holds nothing.
	End events.Mark
}

// Kind says how two histories are related.
type Kind string

// The kinds of relations, from the side that is called ours.
const (
	Same     Kind = "same"
	Behind   Kind = "behind"   // theirs continues ours
	Ahead    Kind = "ahead"    // ours continues theirs
	Diverged Kind = "diverged" // each holds what the other lacks
	// Unknown: what would tell was forgotten. That is no split brain, but who lacks
	// something has to be synced anew.
	Unknown   Kind = "unknown"
	OtherLife Kind = "other_life" // two directories of one name: nothing is common
)

// Relation is what [Compare] finds.
type Relation struct {
	Kind Kind
	// Common is the last mark that both hold. Of diverged histories it is exact, or else
	// a mark at or before it (zero: none is known).
	Common events.Mark
	Exact  bool
	// Ours and Theirs are what each side holds behind Common.
	Ours, Theirs Rest
}

// Rest is the part of a history that the other one lacks.
type Rest struct {
	Tags []events.TagClaimed // as far as they are known, oldest first
	// Entries and Bytes are what journals count: claims are no entries.
	Entries, Bytes uint64
}

// Compare says how ours is related to theirs.
func Compare(ours, theirs History) Relation {
	empty := ours.End == (events.Mark{}) || theirs.End == (events.Mark{})
	if !empty && ours.ID != "" && theirs.ID != "" && ours.ID != theirs.ID {
		return relation(OtherLife, ours, theirs, events.Mark{}, true)
	}
	here, there := theirs.holds(ours.end()), ours.holds(theirs.end())
	switch {
	case here == yes && there == yes:
		return relation(Same, ours, theirs, ours.End, true)
	case here == yes:
		return relation(Behind, ours, theirs, ours.End, true)
	case there == yes:
		return relation(Ahead, ours, theirs, theirs.End, true)
	case here == no && there == no:
		common, exact := parting(ours, theirs)
		return relation(Diverged, ours, theirs, common, exact)
	}
	return relation(Unknown, ours, theirs, events.Mark{}, false)
}

// Covers reports whether a history is known to go on with all of another, or to be the same.
func (h History) Covers(other History) bool {
	kind := Compare(other, h).Kind
	return kind == Same || kind == Behind
}

func relation(kind Kind, ours, theirs History, common events.Mark, exact bool) Relation {
	return Relation{kind, common, exact, ours.behind(common), theirs.behind(common)}
}

// ClaimsOnly reports whether the rest has no entries, and the images are what they were
// before it.
func (r Rest) ClaimsOnly() bool {
	lost := slices.ContainsFunc(r.Tags, func(t events.TagClaimed) bool { return t.Reason == events.TagLost })
	return r.Entries == 0 && r.Bytes == 0 && !lost
}

// answer is what can be said about a history of which a part may be forgotten.
type answer uint8

const (
	unknown answer = iota
	yes
	no
)

// point is a mark with the claim of its tag, if that is known.
type point struct {
	mark  events.Mark
	claim *events.TagClaimed
}

func (h History) end() point {
	if n := len(h.Tags); n > 0 && h.Tags[n-1].Tag == h.End.Position.Tag() {
		return point{h.End, &h.Tags[n-1]}
	}
	return point{mark: h.End}
}

// holds reports whether a history leads through a point. A claim's chain stands for all
// that was before it, and a tag has one writer, whose entries follow each other: so two
// histories with the same claim hold the same entries of it, each as far as it goes.
func (h History) holds(p point) answer {
	at := p.mark.Position
	if p.mark == (events.Mark{}) {
		return yes
	}
	i, found := h.find(at.Tag())
	if !found {
		if i > 0 {
			return no // all tags from the first known one on are known
		}
		return h.forgotten(p.mark)
	}
	claim, exit := h.Tags[i].Mark, h.exit(i)
	switch {
	case p.claim != nil && !p.claim.Mark.Same(claim):
		return no
	case p.mark.Same(exit), p.mark.Same(claim):
		return yes
	case at >= exit.Position, at == claim.Position:
		return no
	case p.claim != nil:
		return yes
	}
	return unknown
}

// forgotten reports whether a mark lies before the first tag that is known. Tags only grow,
// so nothing of the history lies between that tag and the mark that it continues.
func (h History) forgotten(m events.Mark) answer {
	last := h.End
	if len(h.Tags) > 0 {
		last = h.Tags[0].Predecessor
	}
	switch {
	case m.Same(last):
		return yes
	case m.Position >= last.Position:
		return no
	}
	return unknown
}

func (h History) find(tag events.Tag) (int, bool) {
	return slices.BinarySearchFunc(h.Tags, tag, func(t events.TagClaimed, tag events.Tag) int {
		return int(int64(t.Tag) - int64(tag))
	})
}

// exit returns where a history leaves its i-th tag, or ends in it.
func (h History) exit(i int) events.Mark {
	if i+1 < len(h.Tags) {
		return h.Tags[i+1].Predecessor
	}
	return h.End
}

// behind returns what a history holds behind a mark of it.
func (h History) behind(m events.Mark) Rest {
	i, _ := h.find(m.Position.Tag() + 1)
	return Rest{
		Tags:    slices.Clone(h.Tags[i:]),
		Entries: h.End.Entries - min(m.Entries, h.End.Entries),
		Bytes:   h.End.Bytes - min(m.Bytes, h.End.Bytes),
	}
}

// parting returns the last mark that two diverged histories have in common.
func parting(ours, theirs History) (common events.Mark, exact bool) {
	for i := len(ours.Tags) - 1; i >= 0; i-- {
		j, found := theirs.find(ours.Tags[i].Tag)
		if !found || !theirs.Tags[j].Mark.Same(ours.Tags[i].Mark) {
			continue
		}
		a, b := ours.exit(i), theirs.exit(j)
		switch {
		case a.Position < b.Position:
			return a, true
		case b.Position < a.Position:
			return b, true
		case a.Same(b):
			return a, true
		}
		return ours.Tags[i].Mark, false // one tag with two histories: no writer of ours
	}
	if m, ok := leaves(ours, theirs); ok {
		return m, true
	}
	return leaves(theirs, ours)
}

// leaves returns the mark that the first known tag of one history continues, if another
// history holds that mark and goes on otherwise.
func leaves(h, other History) (events.Mark, bool) {
	if len(h.Tags) == 0 {
		return events.Mark{}, false
	}
	first := &h.Tags[0]
	if other.holds(point{first.Mark, first}) != no || other.holds(point{mark: first.Predecessor}) != yes {
		return events.Mark{}, false
	}
	return first.Predecessor, true
}
