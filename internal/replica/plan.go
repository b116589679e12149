package replica

import (
	"cmp"
	"slices"

	"tidemark/events"
)

// plannedMax is how many spans are planned before they are carried out, about: it bounds
// the memory that a plan of tiny changes takes.
const plannedMax = 16 << 10

// plan is the changes of a step that were checked and are not carried out yet, by object.
// Changes of different objects are independent: versions order those of one object, and
// what orders all of them (an operation, a fact, a tag, a flush, the end of the step) has
// the plan carried out first. So the objects are changed in the order in which they lie in
// their files, and what an object's later changes overwrite is never written.
type plan struct {
	objects []plannedObject
	spans   []plannedSpan
	places  map[plannedPlace]int // in objects
	last    events.Position      // of the last change
}

type plannedPlace struct {
	image *Image
	index uint64
}

// plannedObject is what an object will be.
type plannedObject struct {
	plannedPlace
	version     events.Position
	absent      bool // it will be marked as missing
	changes     bool // it will not be what it is
	first, last int  // in spans; -1: none
}

// plannedSpan is the part of a change that lies in one object.
type plannedSpan struct {
	change  change
	span    span
	verdict verdict
	stamp   stamp
	next    int // the object's next one in spans; -1: none
}

// object returns the place in the plan of an object: as it is, before anything is planned
// for it.
func (p *plan) object(img *Image, index uint64) int {
	place := plannedPlace{img, index}
	if i, ok := p.places[place]; ok {
		return i
	}
	if p.places == nil {
		p.places = make(map[plannedPlace]int)
	}
	l, i := img.active, len(p.objects)
	p.objects = append(p.objects, plannedObject{
		plannedPlace: place, version: l.version(index), absent: l.objects.isMissing(index), first: -1, last: -1,
	})
	p.places[place] = i
	return i
}

// add plans a span of an object.
func (p *plan) add(object int, s plannedSpan) {
	o, at := &p.objects[object], len(p.spans)
	s.next = -1
	p.spans = append(p.spans, s)
	if o.last < 0 {
		o.first = at
	} else {
		p.spans[o.last].next = at
	}
	o.last, p.last = at, s.stamp.position
	if s.verdict != skip {
		o.version, o.changes = s.stamp.version, true
		o.absent = o.absent || s.verdict == lack
	}
}

// arrange brings the objects into the order in which they lie in the files. Nothing can
// be added after it.
func (p *plan) arrange() {
	clear(p.places)
	slices.SortFunc(p.objects, func(a, b plannedObject) int {
		return cmp.Or(cmp.Compare(a.image.id, b.image.id), cmp.Compare(a.index, b.index))
	})
}

// images yields the objects of each image in turn, once they are arranged.
func (p *plan) images(yield func(*Image, []plannedObject) bool) {
	for rest := p.objects; len(rest) > 0; {
		img, n := rest[0].image, 1
		for n < len(rest) && rest[n].image == img {
			n++
		}
		if !yield(img, rest[:n]) {
			return
		}
		rest = rest[n:]
	}
}

// reset empties the plan and lets the memory of messages go.
func (p *plan) reset() {
	clear(p.places)
	clear(p.objects)
	clear(p.spans)
	p.objects, p.spans, p.last = p.objects[:0], p.spans[:0], 0
}
