package replica

import (
	"slices"

	"tidemark/events"
)

// change is an IO event that changes data.
type change struct {
	kind   changeKind
	image  events.ImageID
	offset uint64 // bytes
	length uint64 // bytes
	data   []byte // for a write; for a pattern, one copy of it
}

type changeKind uint8

const (
	writing changeKind = iota + 1
	discarding
	zeroing
	repeating
)

// changeOf returns the IO event that an event is, if it is one.
func changeOf(e events.Event) (change, bool) {
	switch e := e.(type) {
	case events.Written:
		return change{writing, e.Image, e.Offset, uint64(len(e.Data)), e.Data}, true
	case events.Discarded:
		return change{discarding, e.Image, e.Offset, e.Length, nil}, true
	case events.Zeroed:
		return change{zeroing, e.Image, e.Offset, e.Length, nil}, true
	case events.PatternWritten:
		return change{repeating, e.Image, e.Offset, e.Length, e.Pattern}, true
	case events.CompareWritten:
		return change{writing, e.Image, e.Offset, uint64(len(e.Data)), e.Data}, true
	}
	return change{}, false
}

// sound reports whether a change has the form that its event demands: a range, and of a
// pattern whole copies.
func (c *change) sound() bool {
	if c.length == 0 || c.offset+c.length < c.offset {
		return false
	}
	return c.kind != repeating || len(c.data) > 0 && c.length%uint64(len(c.data)) == 0
}

// span is the part of a change that lies in one object.
type span struct {
	index    uint64
	base     uint64 // where the object begins in the image
	from, to uint64 // bytes of the object
}

// span returns the part of the change in an object that it touches.
func (c *change) span(index, objectSize uint64) span {
	base := index * objectSize
	return span{
		index: index, base: base,
		from: max(c.offset, base) - base,
		to:   min(c.offset+c.length-base, objectSize),
	}
}

// segment returns the part of the change in a span as a staged segment.
func (c *change) segment(s span, position events.Position) segment {
	g := segment{from: uint32(s.from), to: uint32(s.to), hole: c.kind == discarding, position: position}
	switch c.kind {
	case writing:
		g.data = c.part(s)
	case repeating:
		g.data, g.repeats, g.phase = c.data, true, uint32(c.phase(s.base+s.from))
	case discarding, zeroing: // without data
	}
	return g
}

// phase returns which byte of a pattern lies at a byte of the image.
func (c *change) phase(at uint64) uint64 { return (at - c.offset) % uint64(len(c.data)) }

// part returns the data that a write has for a span.
func (c *change) part(s span) []byte { return c.data[s.base+s.from-c.offset:][:s.to-s.from] }

// Stage makes the IO entries of a logged batch visible to reads before they may be
// applied: they are logged, but not yet safe. Nothing but memory is touched. The
// batch's memory is read until [Replica.Apply] of the same batch returned nil, or
// until [Replica.Close]. Batches are staged in the journal's order; one that was
// applied is left out. Entries of images that do not exist yet, and whatever lies beyond an
// image's end, show only when applied.
func (r *Replica) Stage(b *events.Batch) {
	r.mu.Lock()
	applied := r.applied.Position
	r.staged = b.End.Position
	r.mu.Unlock()
	if b.End.Position <= applied {
		return // nothing would take it away again
	}
	for i := range b.Entries {
		c, ok := changeOf(b.Entries[i].Event)
		if !ok || !c.sound() {
			continue
		}
		if img, ok := r.Image(c.image); ok {
			img.stage(&c, b.Position(i))
		}
	}
}

func (img *Image) stage(c *change, position events.Position) {
	if c.offset+c.length > ObjectsMax*img.objectSize {
		return
	}
	first, count := Objects(c.offset, c.length, img.objectSize)
	for index := first; index < first+count; index++ {
		s := img.stripe(index)
		g := c.segment(c.span(index, img.objectSize), position)
		s.mu.Lock()
		if s.staged == nil {
			s.staged = make(map[uint64]segments)
		}
		s.staged[index] = s.staged[index].insert(g)
		s.mu.Unlock()
	}
}

// unstage takes away all that an entry staged, which is void.
func (img *Image) unstage(c *change, position events.Position) {
	if c.offset+c.length > ObjectsMax*img.objectSize {
		return
	}
	first, count := Objects(c.offset, c.length, img.objectSize)
	for index := first; index < first+count; index++ {
		s := img.stripe(index)
		s.mu.Lock()
		s.unstage(c.span(index, img.objectSize), position)
		s.mu.Unlock()
	}
}

// unstageTo takes away what entries up to a position staged of an object. The stripe is
// held.
func (s *stripe) unstageTo(index uint64, position events.Position) {
	segs, ok := s.staged[index]
	if !ok {
		return
	}
	segs = slices.DeleteFunc(segs, func(g segment) bool { return g.position <= position })
	if len(segs) == 0 {
		delete(s.staged, index)
	} else {
		s.staged[index] = segs
	}
}

// unstage takes away what the entry at position staged in a span. The stripe is held.
func (s *stripe) unstage(p span, position events.Position) {
	segs, ok := s.staged[p.index]
	if !ok {
		return
	}
	if segs = segs.remove(uint32(p.from), uint32(p.to), position); len(segs) == 0 {
		delete(s.staged, p.index)
	} else {
		s.staged[p.index] = segs
	}
}
