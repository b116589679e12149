package replica

import (
	"slices"

	"tidemark/events"
)

// segment is a staged change of one object: the bytes [from, to) of it, counted from
// the object's start.
type segment struct {
	from, to uint32
	hole     bool            // given back; false with nil data: zeroes
	position events.Position // of the entry that staged it
	data     []byte          // to-from bytes that the batch owns, or nil
	// repeats says that data is a pattern of any length, of which byte number phase comes
	// first.
	repeats bool
	phase   uint32
}

// segments are the staged changes of one object: sorted, not overlapping, the newest
// wins.
type segments []segment

// search returns the index of the first segment that ends behind at.
func (s segments) search(at uint32) int {
	lo, hi := 0, len(s)
	for lo < hi {
		if mid := (lo + hi) / 2; s[mid].to > at {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// part returns the piece [from, to) of a segment that covers it.
func (g segment) part(from, to uint32) segment {
	switch {
	case g.repeats:
		g.phase = (g.phase + from - g.from) % uint32(len(g.data))
	case g.data != nil:
		g.data = g.data[from-g.from : to-g.from]
	}
	g.from, g.to = from, to
	return g
}

// read fills p with the segment's bytes from byte at of the object on.
func (g *segment) read(p []byte, at uint32) {
	switch {
	case g.repeats:
		repeat(p, g.data, uint64(g.phase+at-g.from)%uint64(len(g.data)))
	case g.data == nil:
		clear(p)
	default:
		copy(p, g.data[at-g.from:])
	}
}

// repeat fills p with copies of a pattern, of which byte number phase comes first.
func repeat(p, pattern []byte, phase uint64) {
	n := copy(p, pattern[phase:])
	n += copy(p[n:], pattern[:phase])
	for n < len(p) { // what is there begins at the same phase
		n += copy(p[n:], p[:n/len(pattern)*len(pattern)])
	}
}

// insert lays a segment over what is there: older ones are trimmed, split or replaced.
func (s segments) insert(g segment) segments {
	first := s.search(g.from)
	last := first
	var around [3]segment // what stays of the first, the new one, what stays of the last
	n := 0
	if first < len(s) && s[first].from < g.from {
		around[n] = s[first].part(s[first].from, g.from)
		n++
	}
	around[n] = g
	n++
	for last < len(s) && s[last].from < g.to {
		if s[last].to > g.to {
			around[n] = s[last].part(g.to, s[last].to)
			n++
		}
		last++
	}
	return slices.Replace(s, first, last, around[:n]...)
}

// remove takes away what the entry at position staged within [from, to) and is still
// visible.
func (s segments) remove(from, to uint32, position events.Position) segments {
	first := s.search(from)
	if first == 0 && len(s) > 0 && s[0].to <= to && s[0].position == position &&
		(len(s) == 1 || s[1].from >= to) {
		s[0].data = nil
		return s[1:] // in order, as sequential writes are applied
	}
	out := first
	i := first
	for ; i < len(s) && s[i].from < to; i++ {
		if s[i].position != position {
			s[out] = s[i]
			out++
		}
	}
	return slices.Delete(s, out, i)
}
