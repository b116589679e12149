package replica

import "tidemark/events"

// Each block of an object is, in one layer, one of: allocated (it lies in the file),
// hidden (it reads as zeroes), or neither: then the layer below says what it shows, as
// far as the overlap reaches; behind it, and where there is no layer below, zeroes.
//
//	active     [ A A . . h . | . . ]     A allocated  h hidden  . neither  | overlap
//	             |   |   |
//	parent     [ x A A . A A   A A ]
//	                   |
//	base       [ A x A A A A ]
//	shows        A A A A 0 A   0 0
//
// Whoever walks a chain holds Replica.chain, or is the applier.

// shownBlocks returns how many blocks of an object may show what lies below, from its
// first on.
func (l *layer) shownBlocks(index uint64) uint64 {
	base := index * l.objectSize
	if l.parent == nil || base >= l.overlap {
		return 0
	}
	return min(l.overlap-base, l.objectSize) / BlockSize
}

// shows reports whether a block shows data of a layer below. o may be nil.
func (l *layer) shows(o *object, index, block uint64) bool {
	for block < l.shownBlocks(index) {
		if o != nil && (o.blocks.has(block) || o.hidden.has(block)) {
			return false
		}
		l = l.parent
		if o = l.objects.get(index); o != nil && o.blocks.has(block) {
			return true
		}
	}
	return false
}

// version returns the version of an object as a layer shows it: that of the first layer,
// from this one down, in which it was touched.
func (l *layer) version(index uint64) events.Position {
	base := index * l.objectSize
	for {
		if v := l.objects.version(index); v != 0 {
			return v
		}
		if l.floor != 0 && base < l.floorEnd {
			return l.floor
		}
		if l.parent == nil || base >= l.overlap {
			return 0
		}
		l = l.parent
	}
}

// read fills p with what a layer shows of an object, from byte from of it on.
func (l *layer) read(index, from uint64, p []byte) error {
	for {
		o := l.objects.get(index)
		switch {
		case o != nil && o.blocks != nil && o.blocks == l.objects.full:
			return l.readFile(index*l.objectSize+from, p)
		case o != nil && (o.blocks != nil || o.hidden != nil):
			return l.readMixed(o, index, from, p)
		}
		shown := l.shownBlocks(index) * BlockSize
		if shown < from+uint64(len(p)) {
			rest := max(shown, from) - from
			clear(p[rest:])
			p = p[:rest]
		}
		if len(p) == 0 {
			return nil
		}
		l = l.parent
	}
}

// readMixed reads from an object that has some of its blocks.
func (l *layer) readMixed(o *object, index, from uint64, p []byte) error {
	to := from + uint64(len(p))
	shown := l.shownBlocks(index)
	for at := from; at < to; {
		block, limit := at/BlockSize, (to+BlockSize-1)/BlockSize
		allocated, end := o.blocks.run(block, limit)
		below := false
		if !allocated && block < shown {
			var hidden bool
			hidden, end = o.hidden.run(block, min(end, shown))
			below = !hidden
		}
		next := min(to, end*BlockSize)
		piece := p[at-from : next-from]
		var err error
		switch {
		case allocated:
			err = l.readFile(index*l.objectSize+at, piece)
		case below:
			err = l.parent.read(index, at, piece)
		default:
			clear(piece)
		}
		if err != nil {
			return err
		}
		at = next
	}
	return nil
}

// visible sets in words a bit for each block of an object that a layer shows allocated,
// its own or from below. words are zero, and enough for an object.
func (l *layer) visible(index uint64, words []uint64) *bitmap {
	out := &bitmap{words: words}
	var room [ObjectSizeMax / BlockSize / 64]uint64
	covered := room[:len(words)] // what layers above decide
	for {
		if o := l.objects.get(index); o != nil {
			for i := range words {
				if o.blocks != nil {
					words[i] |= o.blocks.words[i] &^ covered[i]
					covered[i] |= o.blocks.words[i]
				}
				if o.hidden != nil {
					covered[i] |= o.hidden.words[i]
				}
			}
		}
		shown, blocks := l.shownBlocks(index), l.objectSize/BlockSize
		if shown == 0 {
			break
		}
		for w := shown / 64; w*64 < blocks; w++ {
			covered[w] |= mask(w, shown, blocks)
		}
		l = l.parent
	}
	out.recount()
	return out
}
