package vfs

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
)

// BenchmarkWriteOver writes blocks of 4 KiB at random over what long writes have left in the
// page cache: the longer those were for the kernel, the more it costs (writeBytes).
func BenchmarkWriteOver(b *testing.B) {
	const size, block = 256 << 20, 4 << 10
	for _, long := range []int{block, 128 << 10, 4 << 20} {
		b.Run(fmt.Sprintf("written=%dKiB", long>>10), func(b *testing.B) {
			f, err := OS().Create(filepath.Join(b.TempDir(), "f"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			data := make([]byte, long)
			for off := int64(0); off < size; off += int64(long) {
				if _, err := f.WriteAt(data, off); err != nil {
					b.Fatal(err)
				}
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := f.WriteAt(data[:block], rand.Int64N(size/block)*block); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
