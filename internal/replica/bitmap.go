package replica

import (
	"math/bits"
	"slices"
)

// bitmap is a set of an object's blocks: those that are allocated, or that hide what
// lies below.
type bitmap struct {
	count int // bits set
	words []uint64
}

func wordsFor(blocks uint64) uint64 { return (blocks + 63) / 64 }

func fullBitmap(blocks uint64) *bitmap {
	b := &bitmap{words: make([]uint64, wordsFor(blocks))}
	b.set(0, blocks)
	return b
}

func (b *bitmap) clone() *bitmap { return &bitmap{b.count, slices.Clone(b.words)} }

// mask returns the bits of word w that lie in [from, to).
func mask(w, from, to uint64) uint64 {
	lo, hi := max(from, w*64)-w*64, min(to, w*64+64)-w*64
	return ^uint64(0) >> (64 - (hi - lo)) << lo
}

func (b *bitmap) set(from, to uint64) (added int) {
	for w := from / 64; w*64 < to; w++ {
		m := mask(w, from, to)
		added += bits.OnesCount64(m &^ b.words[w])
		b.words[w] |= m
	}
	b.count += added
	return added
}

func (b *bitmap) clear(from, to uint64) (removed int) {
	for w := from / 64; w*64 < to; w++ {
		m := mask(w, from, to)
		removed += bits.OnesCount64(m & b.words[w])
		b.words[w] &^= m
	}
	b.count -= removed
	return removed
}

// recount counts the bits of words that were changed from outside.
func (b *bitmap) recount() {
	b.count = 0
	for _, w := range b.words {
		b.count += bits.OnesCount64(w)
	}
}

// has reports whether a block is allocated. A nil bitmap has none.
func (b *bitmap) has(block uint64) bool {
	return b != nil && b.words[block/64]>>(block%64)&1 == 1
}

// run returns whether the blocks from from on are allocated, and the end of the run of
// those that are alike, at most limit. A nil bitmap has none. from is below limit.
func (b *bitmap) run(from, limit uint64) (allocated bool, end uint64) {
	if b == nil {
		return false, limit
	}
	allocated = b.has(from)
	for at := from; at < limit; at = (at/64 + 1) * 64 {
		word := b.words[at/64] >> (at % 64)
		if allocated {
			word = ^word
			if at%64 != 0 { // the zeroes that the shift let in are no blocks
				word &= ^uint64(0) >> (at % 64)
			}
		}
		if word != 0 {
			return allocated, min(limit, at+uint64(bits.TrailingZeros64(word)))
		}
	}
	return allocated, limit
}

// checkedBitmap counts the bits of words; nil when there are other words, or other
// blocks, than full has.
func checkedBitmap(words []uint64, full *bitmap) *bitmap {
	if len(words) != len(full.words) {
		return nil
	}
	b := &bitmap{words: words}
	for i, w := range words {
		if w&^full.words[i] != 0 {
			return nil
		}
		b.count += bits.OnesCount64(w)
	}
	return b
}

// meets reports whether two bitmaps, which may be nil, have a block in common.
func (b *bitmap) meets(o *bitmap) bool {
	if b == nil || o == nil {
		return false
	}
	for i, w := range b.words {
		if w&o.words[i] != 0 {
			return true
		}
	}
	return false
}

// runs calls f with each run of blocks that are set, below limit. A nil bitmap has none.
func (b *bitmap) runs(limit uint64, f func(from, to uint64) error) error {
	for at := uint64(0); at < limit; {
		set, end := b.run(at, limit)
		if set {
			if err := f(at, end); err != nil {
				return err
			}
		}
		at = end
	}
	return nil
}

// except returns the blocks of a bitmap that are in neither of two others. Any may be nil.
func (b *bitmap) except(x, y *bitmap) *bitmap {
	if b == nil {
		return nil
	}
	out := &bitmap{words: slices.Clone(b.words)}
	for i := range out.words {
		for _, o := range []*bitmap{x, y} {
			if o != nil {
				out.words[i] &^= o.words[i]
			}
		}
	}
	out.recount()
	return out
}
