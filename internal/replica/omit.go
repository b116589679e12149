package replica

// DigestSize is the length of a [Digest] in bytes.
const DigestSize = len(Digest{})

// AppendDigests appends the digests of whole blocks, one behind the other.
func AppendDigests(digests, blocks []byte) []byte {
	for ; len(blocks) >= BlockSize; blocks = blocks[BlockSize:] {
		d := digestOf(blocks[:BlockSize])
		digests = append(digests, d[:]...)
	}
	return digests
}

// LeaveOut takes those blocks out of a copy that the asker has: have marks blocks, like
// Blocks, and digests are theirs, one behind the other. What was taken out is in Same.
func (c *ObjectCopy) LeaveOut(have []uint64, digests []byte) {
	if len(have) != len(c.Blocks) {
		return
	}
	mine, theirs := bitmap{words: c.Blocks}, bitmap{words: have}
	same := make([]uint64, len(have))
	rest, data, found := c.Data[:0], c.Data, false
	for block := range uint64(64 * len(have)) {
		var asked []byte
		if theirs.has(block) {
			if len(digests) < DigestSize {
				break
			}
			asked, digests = digests[:DigestSize], digests[DigestSize:]
		}
		if !mine.has(block) {
			continue
		}
		d := data[:BlockSize]
		data = data[BlockSize:]
		if asked != nil && digestOf(d) == Digest(asked) {
			same[block/64] |= 1 << (block % 64)
			found = true
			continue
		}
		rest = append(rest, d...)
	}
	c.Data = append(rest, data...)
	if found {
		c.Same = same
	}
}

// PutBack puts the blocks into a copy that were left out of it, from what the asker has.
// A copy that lacks other blocks than the asker has has the code [fault.Corrupt].
func (c *ObjectCopy) PutBack(from ObjectCopy) error {
	if c.Same == nil {
		return nil
	}
	if len(c.Same) != len(c.Blocks) || len(c.Same) != len(from.Blocks) {
		return corrupt("a copy lacks blocks that it cannot have")
	}
	all, same, have := bitmap{words: c.Blocks}, bitmap{words: c.Same}, bitmap{words: from.Blocks}
	all.recount()
	whole := make([]byte, 0, all.count*BlockSize)
	rest, mine := c.Data, from.Data
	for block := range uint64(64 * len(c.Same)) {
		var own []byte
		if have.has(block) {
			own, mine = mine[:BlockSize], mine[BlockSize:]
		}
		switch {
		case same.has(block):
			if own == nil || !all.has(block) {
				return corrupt("a copy lacks block %d, which is not here", block)
			}
			whole = append(whole, own...)
		case all.has(block):
			if len(rest) < BlockSize {
				return corrupt("a copy ends before block %d", block)
			}
			whole, rest = append(whole, rest[:BlockSize]...), rest[BlockSize:]
		}
	}
	c.Data, c.Same = append(whole, rest...), nil
	return nil
}
