package replica

import (
	"fmt"
	"math/bits"
	"sync/atomic"

	"tidemark/events"
	"tidemark/internal/fault"
)

// Bounds of images. A block is what allocation and the atomicity of reads are counted
// in.
const (
	BlockSize         = 4 << 10 // bytes
	ObjectSizeDefault = 4 << 20 // bytes
	ObjectSizeMin     = BlockSize
	ObjectSizeMax     = 32 << 20 // bytes
	// ObjectsMax is the most objects that an image can have: 256 TiB of the default size.
	ObjectsMax = 1 << 26
)

// CheckImage reports whether an image can have this size and object size, in bytes.
// The error has the code [fault.Usage].
func CheckImage(size, objectSize uint64) error {
	if objectSize < ObjectSizeMin || objectSize > ObjectSizeMax || bits.OnesCount64(objectSize) != 1 {
		return fault.New(fault.Usage, "an object size of %d bytes: it is a power of two from %d to %d",
			objectSize, ObjectSizeMin, ObjectSizeMax)
	}
	if size == 0 || size > ObjectsMax*objectSize {
		return fault.New(fault.Usage, "an image of %d bytes: with objects of %d bytes it has 1 to %d bytes",
			size, objectSize, ObjectsMax*objectSize)
	}
	return nil
}

// Objects returns the objects that a range touches: the index of the first, and how
// many there are. An entry's versions are those of these objects, in this order.
// length is at least 1, offset+length does not overflow.
func Objects(offset, length, objectSize uint64) (first, count uint64) {
	first = offset / objectSize
	return first, (offset+length-1)/objectSize - first + 1
}

// Boundary returns the object that a shrink from one size to another changes besides
// the image itself: the one that the new end lies in, whether it holds data or not.
// Its version becomes the position of the entry. Objects wholly beyond the new end are
// dropped, their versions become zero. There is none when the image grows or the new
// end lies between objects.
func Boundary(from, to, objectSize uint64) (index uint64, ok bool) {
	return to / objectSize, to < from && to%objectSize != 0
}

// object is what is known of one object of a layer.
type object struct {
	version events.Position // of the last entry that changed it; 0: never
	blocks  *bitmap         // allocated; nil: none
	hidden  *bitmap         // zeroes that hide what lies below, none of them allocated; nil: none
	flags   objectFlags
}

type objectFlags uint8

const (
	// dirty: differs from its record in the metadata.
	dirty objectFlags = 1 << iota
	// recorded: the metadata hold a record of it.
	recorded
	// missing: an entry that the first sync's catching up came across expects content
	// that was never installed, because its source had dropped the object by then. The
	// entry was skipped, so the object must be dropped before catching up ends.
	missing
)

// objectsPerPage is how many neighbours a table allocates together, pagesPerGroup how many
// pages' places.
const (
	objectsPerPage = 256
	pagesPerGroup  = 256
)

type (
	page  [objectsPerPage]object
	group [pagesPerGroup]atomic.Pointer[page]
)

// table holds the objects of a layer. Its pages are made when first needed. Only
// the applier makes pages and replaces the table; an object is protected by its stripe.
type table struct {
	full   *bitmap // what all objects share that have every block
	groups []atomic.Pointer[group]
	count  uint64
}

func newTable(count, blocksPerObject uint64) *table {
	return &table{full: fullBitmap(blocksPerObject), groups: newGroups(count), count: count}
}

func newGroups(count uint64) []atomic.Pointer[group] {
	const objects = objectsPerPage * pagesPerGroup
	return make([]atomic.Pointer[group], (count+objects-1)/objects)
}

// resized returns a table of another count that shares the pages. Objects that a smaller
// one leaves out have been forgotten before.
func (t *table) resized(count uint64) *table {
	out := &table{full: t.full, groups: newGroups(count), count: count}
	for i := range min(len(out.groups), len(t.groups)) {
		out.groups[i].Store(t.groups[i].Load())
	}
	return out
}

// page returns the page of an object, nil if there is none. index is below count.
func (t *table) page(index uint64) *page {
	if g := t.groups[index/objectsPerPage/pagesPerGroup].Load(); g != nil {
		return g[index/objectsPerPage%pagesPerGroup].Load()
	}
	return nil
}

// get returns an object, nil when it was never touched.
func (t *table) get(index uint64) *object {
	if index >= t.count {
		return nil
	}
	if p := t.page(index); p != nil {
		return &p[index%objectsPerPage]
	}
	return nil
}

// version returns an object's version, 0 when it was never touched.
func (t *table) version(index uint64) events.Position {
	if o := t.get(index); o != nil {
		return o.version
	}
	return 0
}

// isMissing reports whether an object is marked as missing.
func (t *table) isMissing(index uint64) bool {
	o := t.get(index)
	return o != nil && o.flags&missing != 0
}

// any reports whether the table has an object that was touched.
func (t *table) any() (found bool) {
	t.touched(0, func(_ uint64, o *object) bool {
		found = o.version != 0
		return !found
	})
	return found
}

// after returns the index behind one at which the next object may be that was touched;
// the same index at the end of the table.
func (t *table) after(index uint64) uint64 {
	if index < t.count && t.page(index) == nil {
		return min(t.count, (index/objectsPerPage+1)*objectsPerPage)
	}
	return min(t.count, index+1)
}

// make returns an object, with a page of its own if need be. index is below count.
func (t *table) make(index uint64) *object {
	at := &t.groups[index/objectsPerPage/pagesPerGroup]
	g := at.Load()
	if g == nil {
		g = new(group)
		at.Store(g)
	}
	p := g[index/objectsPerPage%pagesPerGroup].Load()
	if p == nil {
		p = new(page)
		g[index/objectsPerPage%pagesPerGroup].Store(p)
	}
	return &p[index%objectsPerPage]
}

// touched calls f with each object from index first on that has a page, until f
// returns false.
func (t *table) touched(first uint64, f func(index uint64, o *object) bool) {
	for i := first; i < t.count; {
		p := t.page(i)
		if p == nil {
			i = (i/objectsPerPage + 1) * objectsPerPage
			continue
		}
		if !f(i, &p[i%objectsPerPage]) {
			return
		}
		i++
	}
}

// set marks blocks [from, to) allocated and returns how many were not before.
func (t *table) set(o *object, from, to uint64) (added int) {
	o.blocks, added = t.with(o.blocks, from, to)
	if o.hidden != nil {
		o.hidden, _ = t.without(o.hidden, from, to)
	}
	return added
}

// clear marks blocks [from, to) free and returns how many were not before.
func (t *table) clear(o *object, from, to uint64) (removed int) {
	o.blocks, removed = t.without(o.blocks, from, to)
	return removed
}

// hide makes blocks [from, to), which are free, hide what lies below them.
func (t *table) hide(o *object, from, to uint64) { o.hidden, _ = t.with(o.hidden, from, to) }

// with returns a bitmap with blocks [from, to) set, in the table's compact form.
func (t *table) with(b *bitmap, from, to uint64) (out *bitmap, added int) {
	if b == t.full {
		return b, 0
	}
	if b == nil {
		if to-from == uint64(t.full.count) {
			return t.full, t.full.count
		}
		b = &bitmap{words: make([]uint64, len(t.full.words))}
	}
	added = b.set(from, to)
	if b.count == t.full.count {
		return t.full, added
	}
	return b, added
}

// without returns a bitmap with blocks [from, to) cleared, in the table's compact form.
func (t *table) without(b *bitmap, from, to uint64) (out *bitmap, removed int) {
	if b == nil {
		return nil, 0
	}
	if b == t.full {
		if to-from == uint64(t.full.count) {
			return nil, t.full.count
		}
		b = t.full.clone()
	}
	removed = b.clear(from, to)
	if b.count == 0 {
		return nil, removed
	}
	return b, removed
}

// compact returns a bitmap, which may be nil, in the table's compact form: nil when it is
// empty, and the one that all share when it is full.
func (t *table) compact(b *bitmap) *bitmap {
	switch {
	case b == nil || b.count == 0:
		return nil
	case b.count == t.full.count:
		return t.full
	}
	return b
}

// objectName names an object in an error.
func objectName(image events.ImageID, index uint64) string {
	return fmt.Sprintf("object %d of image %d", index, image)
}
