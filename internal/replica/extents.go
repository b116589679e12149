package replica

// Extent is a run of bytes that are alike.
type Extent struct {
	Length uint64 // bytes
	Hole   bool   // takes no space
	Zero   bool   // reads as zeroes; false says nothing
}

// ExtentsMax is the most extents that one call returns.
const ExtentsMax = 64 << 10

// Extents says which parts of a range are allocated, staged changes included. The
// extents adjoin and begin at offset; they end early when there would be more than
// [ExtentsMax]. It fails with [ErrRange] when the range ends beyond the image.
func (img *Image) Extents(offset, length uint64) ([]Extent, error) {
	if err := img.checkRange(offset, length); err != nil {
		return nil, err
	}
	return gatherExtents(offset, length, img.objectSize, img.objectExtents), nil
}

// gatherExtents returns the extents of a range; of adds those of a part of one object.
func gatherExtents(offset, length, objectSize uint64, of func(out []Extent, index, from, to uint64) []Extent) []Extent {
	var out []Extent
	for end := offset + length; offset < end && len(out) <= ExtentsMax; {
		index, from := offset/objectSize, offset%objectSize
		to := min(objectSize, from+end-offset)
		out = of(out, index, from, to)
		offset += to - from
	}
	return out[:min(len(out), ExtentsMax)]
}

// objectExtents appends the extents of bytes [from, to) of an object.
func (img *Image) objectExtents(out []Extent, index, from, to uint64) []Extent {
	s := img.stripe(index)
	s.mu.RLock()
	defer s.mu.RUnlock()
	l := img.active
	if l.parent != nil {
		img.replica.chain.RLock()
		defer img.replica.chain.RUnlock()
	}
	segs := s.staged[index]
	var words [ObjectSizeMax / BlockSize / 64]uint64
	blocks := l.allocation(index, words[:wordsFor(img.objectSize/BlockSize)], len(segs) > 0)
	segs.over(blocks)
	return appendObjectExtents(out, blocks, from, to)
}

// allocation returns the allocation of an object as a layer shows it, nil for none. words
// are room for it, used where there is no bitmap to share or when it is to be changed.
func (l *layer) allocation(index uint64, words []uint64, changed bool) *bitmap {
	if l.parent != nil || changed {
		return l.visible(index, words)
	}
	if o := l.objects.get(index); o != nil {
		return o.blocks
	}
	return nil
}

// appendObjectExtents appends the extents of bytes [from, to) of an object.
func appendObjectExtents(out []Extent, blocks *bitmap, from, to uint64) []Extent {
	for from < to {
		allocated, end := blocks.run(from/BlockSize, (to+BlockSize-1)/BlockSize)
		next := min(to, end*BlockSize)
		out = appendExtent(out, Extent{Length: next - from, Hole: !allocated, Zero: !allocated})
		from = next
	}
	return out
}

// over changes the allocation of an object to what it is once its segments are applied.
func (s segments) over(out *bitmap) {
	for i := range s {
		from, to := uint64(s[i].from), uint64(s[i].to)
		if !s[i].hole {
			out.set(from/BlockSize, (to+BlockSize-1)/BlockSize)
		} else if first, end := (from+BlockSize-1)/BlockSize, to/BlockSize; first < end {
			out.clear(first, end)
		}
	}
}

func appendExtent(out []Extent, e Extent) []Extent {
	if n := len(out); n > 0 && out[n-1].Hole == e.Hole && out[n-1].Zero == e.Zero {
		out[n-1].Length += e.Length
		return out
	}
	return append(out, e)
}
