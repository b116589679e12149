package replica

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"
)

func TestBlockDigests(t *testing.T) {
	one := bytes.Repeat([]byte{7}, BlockSize)
	content := slices.Concat(one, make([]byte, BlockSize), []byte("the rest"))
	got := BlockDigests(nil, content)
	rest := make([]byte, BlockSize)
	copy(rest, "the rest")
	first, last := sha256.Sum256(one), sha256.Sum256(rest)
	want := []Digest{Digest(first[:16]), {}, Digest(last[:16])}
	if !slices.Equal(got, want) {
		t.Errorf("digests %x, want %x", got, want)
	}
	if again := BlockDigests(got[:1:1], content[BlockSize:]); !slices.Equal(again, want) {
		t.Errorf("appended to the first: %x, want %x", again, want)
	}
	almost := make([]byte, BlockSize)
	almost[BlockSize-1] = 1
	if d := BlockDigests(nil, almost); d[0] == (Digest{}) {
		t.Error("a block that ends in a one passes for zeroes")
	}
}

func TestContentDigest(t *testing.T) {
	if d := ContentDigest(make([]Digest, 1024)); d != (Digest{}) {
		t.Errorf("an object of zeroes has digest %x", d)
	}
	a, b := Digest{1}, Digest{2}
	if ContentDigest([]Digest{a, b}) == ContentDigest([]Digest{b, a}) {
		t.Error("the order of blocks makes no difference")
	}
}
