package replica

import (
	"fmt"

	"tidemark/events"
)

// carryOut does what is planned. Readers see each block change once, from what was staged
// or applied before to what the last change in the plan leaves there. Where nothing was
// staged (a follower), a reader would see a later change of one object before an earlier
// one of another: there all of the plan shows at once.
func (r *Replica) carryOut() error {
	p := &r.plan
	if len(p.spans) == 0 {
		p.reset()
		return nil
	}
	p.arrange()
	together := p.last > r.shown()
	if together {
		for img := range p.images {
			img.lockAll()
			defer img.unlockAll()
		}
	}
	defer p.reset()
	for img, objects := range p.images {
		w := &r.spans
		w.layer = img.active
		err := w.carryOut(p, objects, together)
		r.lost += w.lost
		w.lost = 0
		if err != nil {
			return r.fail(err)
		}
	}
	return nil
}

// shown returns how far entries were staged.
func (r *Replica) shown() events.Position {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.staged
}

// spanWriter carries out what is planned for the objects of one layer.
type spanWriter struct {
	layer    *layer
	writes   segments // of the object at hand, not in the file yet
	pieces   [][]byte
	holes    holes
	expanded []byte // room for copies of a pattern
	lost     int    // objects that have become missing
}

// carryOut changes objects in the order of their indices. locked says that their stripes
// are held.
func (w *spanWriter) carryOut(p *plan, objects []plannedObject, locked bool) error {
	for i := range objects {
		o := &objects[i]
		if err := w.object(p, o, locked); err != nil {
			return fmt.Errorf("apply changes up to entry %v to %s: %w", p.spans[o.last].stamp.position, objectName(o.image.id, o.index), err)
		}
	}
	if err := w.holes.punch(w.layer); err != nil {
		return fmt.Errorf("apply changes up to entry %v: %w", p.last, err)
	}
	return nil
}

// object changes one object, and lets what was staged of it go: both under its lock, so
// that no reader sees neither.
func (w *spanWriter) object(p *plan, planned *plannedObject, locked bool) error {
	s := planned.image.stripe(planned.index)
	if !locked {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	if planned.changes {
		o := w.layer.objects.make(planned.index)
		if err := w.change(o, p, planned); err != nil {
			return err
		}
		if planned.absent && o.flags&missing == 0 {
			o.flags |= missing
			w.lost++
		}
		o.version = planned.version
		w.layer.touch(o, planned.index)
	}
	s.unstageTo(planned.index, p.last)
	planned.image.replica.witnesses.changed(planned.image, planned.index)
	return nil
}

// change changes an object's data and allocation.
func (w *spanWriter) change(o *object, p *plan, planned *plannedObject) error {
	for i := planned.first; i >= 0; i = p.spans[i].next {
		s := &p.spans[i]
		if s.verdict != apply {
			continue // its content is there already, or never was
		}
		if s.change.kind == writing {
			w.writes = w.writes.insert(s.change.segment(s.span, s.stamp.position))
			continue
		}
		if err := w.flush(o, planned.index); err != nil {
			return err
		}
		if err := w.apart(o, planned.image, s); err != nil {
			return err
		}
	}
	return w.flush(o, planned.index)
}

// flush writes what is gathered of an object, as few writes as its gaps allow.
func (w *spanWriter) flush(o *object, index uint64) error {
	if len(w.writes) == 0 {
		return nil
	}
	defer w.forget()
	if err := w.holes.punch(w.layer); err != nil {
		return err
	}
	for first := 0; first < len(w.writes); {
		end := first
		w.pieces = w.pieces[:0]
		for end < len(w.writes) && (end == first || w.writes[end].from == w.writes[end-1].to) {
			w.pieces = append(w.pieces, w.writes[end].data)
			end++
		}
		if err := w.layer.write(o, index, uint64(w.writes[first].from), uint64(w.writes[end-1].to), w.pieces); err != nil {
			return err
		}
		first = end
	}
	return nil
}

// forget lets the memory of messages go.
func (w *spanWriter) forget() {
	clear(w.writes)
	clear(w.pieces)
	w.writes = w.writes[:0]
}

// apart makes a change that is not gathered.
func (w *spanWriter) apart(o *object, img *Image, s *plannedSpan) error {
	l, from, to := w.layer, s.span.from, s.span.to
	if s.change.kind == discarding {
		if s.span.base+to == img.Size() { // nothing lies behind it in the last block
			to = blockEnd(to)
		}
		if err := l.discard(o, s.span.index, from, to); err != nil {
			return err
		}
		return w.holes.add(l, s.span.base+from, s.span.base+to)
	}
	if err := w.holes.punch(l); err != nil {
		return err
	}
	if s.change.kind == zeroing {
		return l.zero(o, s.span.index, from, to)
	}
	return w.writePattern(o, &s.change, s.span)
}

// writePattern writes copies of a pattern, a bounded number of bytes at a time.
func (w *spanWriter) writePattern(o *object, c *change, p span) error {
	for from := p.from; from < p.to; {
		room := min(p.to-from, max(patternRoom, uint64(len(c.data))))
		if uint64(len(w.expanded)) < room {
			w.expanded = make([]byte, room)
		}
		piece := w.expanded[:room]
		repeat(piece, c.data, c.phase(p.base+from))
		if err := w.layer.write(o, p.index, from, from+room, [][]byte{piece}); err != nil {
			return err
		}
		from += room
	}
	return nil
}
