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
	if _, mark := t.Encode(t.Mark.Time); !mark.Same(t.Mark) {
		return corrupt("tag %d: its chain is %v where its content gives %v", t.Tag, t.Mark.Chain, mark.Chain)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tags = append(r.tags, *t)
	return nil
}

// checkChange decides for each object of a change what to do, before any is touched.
func (r *Replica) checkChange(c *change, position, version events.Position, before []events.Position) (*Image, error) {
	img := r.images[c.image]
	if img == nil {
		return nil, corrupt("entry %v: there is no image %d", position, c.image)
	}
	if size := img.Size(); !c.sound() || c.offset > size || c.length > size-c.offset {
		return nil, corrupt("entry %v: %d bytes at %d do not lie in image %d of %d bytes, or are no whole copies",
			position, c.length, c.offset, c.image, size)
	}
	first, count := Objects(c.offset, c.length, img.objectSize)
	if uint64(len(before)) != count {
		return nil, corrupt("entry %v carries %d versions for %d objects", position, len(before), count)
	}
	r.verdicts = r.verdicts[:0]
	for i, want := range before {
		v, err := r.decide(img, first+uint64(i), position, version, want)
		if err != nil {
			return nil, err
		}
		r.verdicts = append(r.verdicts, v)
	}
	return img, nil
}

// decide compares an object's version with those of an entry.
func (r *Replica) decide(img *Image, index uint64, position, version, want events.Position) (verdict, error) {
	have := img.active.version(index)
	if have == version {
		return skip, nil
	}
	if r.catchingUp() {
		// Objects were copied at various later positions of this history, and a
		// version only ever grows along a history: one at or above the entry's has
		// the entry in it. One below what the entry wants was not brought: what shows
		// is what lay below it.
		switch {
		case have > version:
			return skip, nil
		case have < want, img.active.objects.isMissing(index):
			return lack, nil
		}
	}
	if have != want {
		return 0, &MismatchError{Position: position, Image: img.id, Object: index, Want: want, Have: have}
	}
	return apply, nil
}

func (r *Replica) applyChange(c *change, position, version events.Position, before []events.Position) error {
	img, err := r.checkChange(c, position, version, before)
	if err != nil {
		return err
	}
	first, _ := Objects(c.offset, c.length, img.objectSize)
	var holes holes
	for i, v := range r.verdicts {
		p := c.span(first+uint64(i), img.objectSize)
		if err := img.applySpan(c, p, v, position, version, &holes); err != nil {
			return fmt.Errorf("apply entry %v to %s: %w", position, objectName(img.id, p.index), err)
		}
	}
	if err := holes.punch(img.active); err != nil {
		return fmt.Errorf("apply entry %v to image %d: %w", position, img.id, err)
	}
	return nil
}

// applySpan changes one object, and lets what is staged go: both under its lock, so
// that no reader sees neither.
func (img *Image) applySpan(c *change, p span, v verdict, position, version events.Position, holes *holes) error {
	s := img.stripe(p.index)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := img.active
	switch v {
	case apply:
		o := l.objects.make(p.index)
		if err := img.changeObject(o, c, p, holes); err != nil {
			return err
		}
		o.version = version
		l.touch(o, p.index)
	case lack:
		o := l.objects.make(p.index)
		if o.flags&missing == 0 {
			o.flags |= missing
			img.replica.lost++
		}
		o.version = version
		l.touch(o, p.index)
	case skip: // its content is there already
	}
	s.unstage(p, position)
	img.replica.witnesses.changed(img, p.index)
	return nil
}

// changeObject changes an object's data and allocation.
func (img *Image) changeObject(o *object, c *change, p span, holes *holes) error {
	l := img.active
	switch c.kind {
	case writing:
		return l.write(o, p.index, p.from, c.part(p))
	case repeating:
		return img.replica.writePattern(l, o, c, p)
	case zeroing:
		return l.zero(o, p.index, p.from, p.to)
	case discarding:
		to := p.to
		if p.base+to == img.Size() { // nothing lies behind it in the last block
			to = (to + BlockSize - 1) / BlockSize * BlockSize
		}
		if err := l.discard(o, p.index, p.from, to); err != nil {
			return err
		}
		return holes.add(l, p.base+p.from, p.base+to)
	}
	return nil
}

// patternRoom is how many bytes of copies of a pattern are written at once, at least.
const patternRoom = 64 << 10

// writePattern writes copies of a pattern, a bounded number of bytes at a time.
func (r *Replica) writePattern(l *layer, o *object, c *change, p span) error {
	for from := p.from; from < p.to; {
		room := min(p.to-from, max(patternRoom, uint64(len(c.data))))
		if uint64(len(r.expanded)) < room {
			r.expanded = make([]byte, room)
		}
		piece := r.expanded[:room]
		repeat(piece, c.data, c.phase(p.base+from))
		if err := l.write(o, p.index, from, piece); err != nil {
			return err
		}
		from += room
	}
	return nil
}

// holes gathers adjoining freed ranges of a file, so that they are punched at once.
// Readers do not look at freed blocks, so this may come later.
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

func (h *holes) punch(l *layer) error { return l.punch(h.from, h.to) }
