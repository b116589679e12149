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
	var out []Extent
	for end := offset + length; offset < end && len(out) <= ExtentsMax; {
		index, from := offset/img.objectSize, offset%img.objectSize
		to := min(img.objectSize, from+end-offset)
		out = img.objectExtents(out, index, from, to)
		offset += to - from
	}
	if len(out) > ExtentsMax {
		out = out[:ExtentsMax]
	}
	return out, nil
}

// objectExtents appends the extents of bytes [from, to) of an object.
func (img *Image) objectExtents(out []Extent, index, from, to uint64) []Extent {
	s := img.stripe(index)
	s.mu.RLock()
	defer s.mu.RUnlock()
	var blocks *bitmap
	if o := img.active.objects.get(index); o != nil {
		blocks = o.blocks
	}
	if segs := s.staged[index]; len(segs) > 0 {
		var words [ObjectSizeMax / BlockSize / 64]uint64
		blocks = segs.over(blocks, words[:wordsFor(img.objectSize/BlockSize)])
	}
	for from < to {
		allocated, end := blocks.run(from/BlockSize, (to+BlockSize-1)/BlockSize)
		next := min(to, end*BlockSize)
		out = appendExtent(out, Extent{Length: next - from, Hole: !allocated, Zero: !allocated})
		from = next
	}
	return out
}

// over returns the allocation of an object once its segments are applied, in words.
func (s segments) over(blocks *bitmap, words []uint64) *bitmap {
	out := &bitmap{words: words}
	if blocks != nil {
		copy(words, blocks.words)
	}
	for i := range s {
		from, to := uint64(s[i].from), uint64(s[i].to)
		if !s[i].hole {
			out.set(from/BlockSize, (to+BlockSize-1)/BlockSize)
		} else if first, end := (from+BlockSize-1)/BlockSize, to/BlockSize; first < end {
			out.clear(first, end)
		}
	}
	return out
}

func appendExtent(out []Extent, e Extent) []Extent {
	if n := len(out); n > 0 && out[n-1].Hole == e.Hole && out[n-1].Zero == e.Zero {
		out[n-1].Length += e.Length
		return out
	}
	return append(out, e)
}
