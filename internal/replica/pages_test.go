package replica

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"tidemark/internal/fault"
)

// TestPagesThatPointOutside damages an offset in an inline bucket, which bbolt would follow
// to memory that is not there.
func TestPagesThatPointOutside(t *testing.T) {
	dir, _ := sample(t)
	path := filepath.Join(dir, metaName)
	if err := checkPages(path); err != nil {
		t.Fatalf("a sound file: %v", err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := &pageFile{file: bytes.NewReader(whole), size: uint64(os.Getpagesize())}
	root, ok := p.root()
	if !ok {
		t.Fatal("no head")
	}
	page := whole[root*p.size:][:p.size]
	inline := 0
	for i := range int(binary.LittleEndian.Uint16(page[10:])) {
		at := pageHeader * (i + 1)
		word := func(n int) int { return int(binary.LittleEndian.Uint32(page[at+4*n:])) }
		bucket := at + word(1) + word(2)
		if word(0) != leafBucket || binary.LittleEndian.Uint64(page[bucket:]) != 0 || binary.LittleEndian.Uint16(page[bucket+bucketHeader+10:]) == 0 {
			continue
		}
		inline++
		position := page[bucket+bucketHeader+pageHeader+4:]
		was := binary.LittleEndian.Uint32(position)
		binary.LittleEndian.PutUint32(position, 1<<31)
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkPages(path); fault.CodeOf(err) != fault.Corrupt {
			t.Errorf("bucket %d: %v", i, err)
		}
		binary.LittleEndian.PutUint32(position, was)
	}
	if inline == 0 {
		t.Error("the sample has no inline bucket")
	}
}
