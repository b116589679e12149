package replica

import (
	"cmp"
	"fmt"
	"slices"

	"tidemark/events"
	"tidemark/internal/fault"
)

// verdict is what is to be done with one object of an entry.
type verdict uint8

const (
	apply verdict = iota + 1
	skip          // the entry is in the object already
	lack          // the object's content was never installed: see missing
)

// Apply applies a safe message of the journal that continues [Replica.Applied]. seq is
// its sequence in the journal's stream, kept by the next checkpoint. What
// [Replica.Stage] made visible of the message gives way to what is applied.
//
// A message that does not continue what was applied is a [*GapError] or, when it
// belongs to another history, a [*DivergedError]. An entry that meets an object of the
// wrong version is a [*MismatchError], and one that cannot be (it ends beyond its
// image, or is about an image that is not there) has the code [fault.Corrupt]; nothing
// of such an entry is changed. While a first sync runs it is [ErrSyncing].
//
// When entries before the wrong one were applied, or the files could not be changed,
// the replica has failed: it can still be read, but this and every later Apply and
// Checkpoint returns the error. Open it again and replay.
func (r *Replica) Apply(m events.JournalMessage, seq uint64) error {
	r.applying.Lock()
	defer r.applying.Unlock()
	if err := r.usable(); err != nil {
		return err
	}
	if r.syncing {
		return fault.New(fault.NotReady, "apply message that ends at %v: %w", m.Ends().Position, ErrSyncing)
	}
	if err := r.follows(m); err != nil {
		return err
	}
	r.mu.Lock()
	r.begun = m.Ends().Position
	r.mu.Unlock()
	switch m := m.(type) {
	case *events.Batch:
		if err := r.applyBatch(m); err != nil {
			return err
		}
	case *events.TagClaimed:
		if err := r.applyTag(m); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.applied, r.seq = m.Ends(), seq
	r.mu.Unlock()
	return r.checkCaughtUp()
}

// follows reports whether a message continues what was applied.
func (r *Replica) follows(m events.JournalMessage) error {
	end := m.Ends()
	if m.Follows(r.applied) {
		return nil
	}
	gap := &GapError{Applied: r.applied, Message: end}
	diverged := &DivergedError{Applied: r.applied, Message: end}
	at := r.applied.Position
	if end.Position == at && end.Chain != r.applied.Chain {
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

func (r *Replica) applyBatch(b *events.Batch) error {
	for i := range b.Entries {
		e := &b.Entries[i]
		err := r.applyEntry(b.Position(i), e)
		if err == nil {
			continue
		}
		if i == 0 && refusal(err) {
			return err // nothing was changed
		}
		return r.fail(err)
	}
	return nil
}

func (r *Replica) applyEntry(position events.Position, e *events.Entry) error {
	version := e.Version
	if version == 0 {
		version = position
	}
	if c, ok := changeOf(e.Event); ok {
		return r.applyChange(&c, position, version, e.Before)
	}
	if len(e.Before) != 1 {
		return corrupt("entry %v carries %d versions where 1 was expected", position, len(e.Before))
	}
	switch ev := e.Event.(type) {
	case events.ImageCreated:
		return r.createImage(ev, position, version, e.Before[0])
	case events.ImageResized:
		return r.resizeImage(ev, position, version, e.Before[0])
	case events.ImageRemoved:
		return r.removeImage(ev, position, version, e.Before[0])
	}
	return corrupt("entry %v holds an unknown event (%T)", position, e.Event)
}

// checkChange decides for each object of a change what to do, before any is touched.
func (r *Replica) checkChange(c *change, position, version events.Position, before []events.Position) (*Image, error) {
	img := r.images[c.image]
	if img == nil {
		return nil, corrupt("entry %v: there is no image %d", position, c.image)
	}
	if size := img.Size(); c.length == 0 || c.offset > size || c.length > size-c.offset {
		return nil, corrupt("entry %v: %d bytes at %d do not lie in image %d of %d bytes",
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
	var have events.Position
	var flags objectFlags
	if o := img.active.objects.get(index); o != nil {
		have, flags = o.version, o.flags
	}
	if have == version {
		return skip, nil
	}
	if r.catchingUp() {
		// Objects were copied at various later positions of this history, and a
		// version only ever grows along a history: one at or above the entry's has
		// the entry in it.
		switch {
		case have > version:
			return skip, nil
		case flags&missing != 0, have == 0 && want != 0:
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
	return nil
}

// changeObject changes an object's data and allocation.
func (img *Image) changeObject(o *object, c *change, p span, holes *holes) error {
	l := img.active
	switch c.kind {
	case writing:
		return l.write(o, p.base, p.from, c.part(p))
	case zeroing:
		return l.zero(o, p.base, p.from, p.to)
	case discarding:
		to := p.to
		if p.base+to == img.Size() { // nothing lies behind it in the last block
			to = (to + BlockSize - 1) / BlockSize * BlockSize
		}
		if err := l.discard(o, p.base, p.from, to); err != nil {
			return err
		}
		return holes.add(l, p.base+p.from, p.base+to)
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
