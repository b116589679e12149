package replica

import (
	"cmp"
	"fmt"
	"slices"

	"tidemark/events"
)

// verdict is what is to be done with one object of an entry.
type verdict uint8

const (
	apply verdict = iota + 1
	skip          // the entry is in the object already
	lack          // the object's content was never installed: see missing
)

// decision is a verdict about an object of the plan.
type decision struct {
	verdict verdict
	object  int
}

// follows reports whether a message continues the history up to a mark.
func (r *Replica) follows(m events.JournalMessage, applied events.Mark) error {
	end := m.Ends()
	if m.Follows(applied) {
		return nil
	}
	gap := &GapError{Applied: applied, Message: end}
	diverged := &DivergedError{Applied: applied, Message: end}
	at := applied.Position
	if end.Position == at && end.Chain != applied.Chain {
		return diverged
	}
	if end.Position <= at {
		if r.ours(end) {
			return gap
		}
		return diverged
	}
	switch m := m.(type) {
	case *events.Batch:
		// A writer's messages end where they end: one that begins at or before what
		// was applied, and ends beyond it, is another writer's.
		if m.Tag == at.Tag() && m.First <= at.Entry()+1 {
			return diverged
		}
	case *events.TagClaimed:
		// The new owner continues a history that lacks what was applied here, or
		// holds something else there.
		if m.Predecessor.Position <= at {
			return diverged
		}
	}
	return gap
}

// ours reports whether the end of a message at or before what was applied lies in the
// history that led here, as far as the tags kept can tell: in one of them, and not
// behind the entry that the next one continues.
func (r *Replica) ours(end events.Mark) bool {
	i, found := slices.BinarySearchFunc(r.tags, end.Position.Tag(), func(t events.TagClaimed, tag events.Tag) int {
		return cmp.Compare(t.Tag, tag)
	})
	switch {
	case !found:
		return i == 0 // older than any tag that we know
	case end.Position == r.tags[i].Mark.Position && end.Chain != r.tags[i].Mark.Chain:
		return false
	case i+1 < len(r.tags):
		return end.Position <= r.tags[i+1].Predecessor.Position
	}
	return true
}

func (r *Replica) applyTag(t *events.TagClaimed) error {
	if t.Tag > r.reach.Tag() && t.Predecessor.Position < r.reach {
		return r.fail(fmt.Errorf("tag %d continues %v, and objects were copied as of %v: %w", t.Tag, t.Predecessor.Position, r.reach, ErrAstray))
	}
	if _, mark := t.Encode(t.Mark.Time); !mark.Same(t.Mark) {
		return corrupt("tag %d: its chain is %v where its content gives %v", t.Tag, t.Mark.Chain, mark.Chain)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tags = append(r.tags, *t)
	return nil
}

// checkChange decides for each object of a change what to do, before any is touched.
func (r *Replica) checkChange(c *change, at stamp, before []events.Position) (*Image, error) {
	img := r.images[c.image]
	if img == nil {
		return nil, corrupt("entry %v: there is no image %d", at.position, c.image)
	}
	if size := img.Size(); !c.sound() || c.offset > size || c.length > size-c.offset {
		return nil, corrupt("entry %v: %d bytes at %d do not lie in image %d of %d bytes, or are no whole copies",
			at.position, c.length, c.offset, c.image, size)
	}
	first, count := Objects(c.offset, c.length, img.objectSize)
	if uint64(len(before)) != count {
		return nil, corrupt("entry %v carries %d versions for %d objects", at.position, len(before), count)
	}
	r.verdicts = r.verdicts[:0]
	for i, want := range before {
		object := r.plan.object(img, first+uint64(i))
		v, err := r.decide(&r.plan.objects[object], at, want)
		if err != nil {
			return nil, err
		}
		r.verdicts = append(r.verdicts, decision{v, object})
	}
	return img, nil
}

// decide compares the version that an object will have with those of an entry.
func (r *Replica) decide(o *plannedObject, at stamp, want events.Position) (verdict, error) {
	have := o.version
	if have == at.version {
		return skip, nil
	}
	if r.catchingUp() {
		// Objects were copied at various later positions of this history, and a
		// version only ever grows along a history: one at or above the entry's has
		// the entry in it. One below what the entry wants was not brought: what shows
		// is what lay below it.
		switch {
		case have > at.version:
			return skip, nil
		case have < want, o.absent:
			return lack, nil
		}
	}
	if have != want {
		return 0, &MismatchError{Position: at.position, Image: o.image.id, Object: o.index, Want: want, Have: have}
	}
	return apply, nil
}

// planChange checks a change against what will be, and plans it.
func (r *Replica) planChange(c *change, at stamp, before []events.Position) error {
	img, err := r.checkChange(c, at, before)
	if err != nil {
		return err
	}
	first, _ := Objects(c.offset, c.length, img.objectSize)
	for i, d := range r.verdicts {
		r.plan.add(d.object, plannedSpan{change: *c, span: c.span(first+uint64(i), img.objectSize), verdict: d.verdict, stamp: at})
	}
	if r.witnesses.waiting.Load() > 0 { // for what this entry makes, perhaps
		return r.carryOut()
	}
	return nil
}

// patternRoom is how many bytes of copies of a pattern are written at once, at least.
const patternRoom = 64 << 10

// holes gathers adjoining freed ranges of a file, so that they are punched at once.
// Readers do not look at freed blocks, so this may come later, but not after they are
// written again.
type holes struct{ from, to uint64 }

// add takes the whole blocks of a range.
func (h *holes) add(l *layer, from, to uint64) error {
	from, to = (from+BlockSize-1)/BlockSize*BlockSize, to/BlockSize*BlockSize
	if from >= to {
		return nil
	}
	if from == h.to {
		h.to = to
		return nil
	}
	err := h.punch(l)
	h.from, h.to = from, to
	return err
}

func (h *holes) punch(l *layer) error {
	err := l.punch(h.from, h.to)
	*h = holes{}
	return err
}
