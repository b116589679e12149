package replica

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Digest identifies content: the first 16 bytes of its SHA-256. That of a block of zeroes
// is the zero Digest, whether it was written or is a hole.
type Digest [16]byte

// MarshalText writes the digest in hexadecimal.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText reads what MarshalText writes.
func (d *Digest) UnmarshalText(text []byte) error {
	if n, err := hex.Decode(d[:], text[:min(len(text), 2*len(d))]); err != nil || n < len(d) || len(text) > 2*len(d) {
		return fmt.Errorf("%.40q is no digest", text)
	}
	return nil
}

// BlockDigests appends to dst the digest of each block of [BlockSize] bytes of content; a
// last block that is shorter counts as if zeroes followed it.
func BlockDigests(dst []Digest, content []byte) []Digest {
	var padded [BlockSize]byte
	for len(content) > 0 {
		block := content[:min(BlockSize, len(content))]
		content = content[len(block):]
		if len(block) < BlockSize {
			clear(padded[copy(padded[:], block):])
			block = padded[:]
		}
		dst = append(dst, digestOf(block))
	}
	return dst
}

// digestOf returns the digest of one whole block.
func digestOf(block []byte) Digest {
	if allZero(block) {
		return Digest{}
	}
	sum := sha256.Sum256(block)
	return Digest(sum[:len(Digest{})])
}

// allZero reports whether p holds zeroes only: every byte equals the one before it, and
// the first is zero.
func allZero(p []byte) bool {
	return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}

// ContentDigest identifies an object's content by the digests of its blocks; that of an
// object that reads as zeroes is the zero Digest.
func ContentDigest(blocks []Digest) Digest {
	sum, zeroes := sha256.New(), true
	for i := range blocks {
		sum.Write(blocks[i][:])
		zeroes = zeroes && blocks[i] == Digest{}
	}
	if zeroes {
		return Digest{}
	}
	return Digest(sum.Sum(nil)[:len(Digest{})])
}
