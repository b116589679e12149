package replica

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// The format of a bbolt file, as far as it is walked here: pages of a header and
// elements, a header's length each, whose keys and values lie behind them at offsets
// that are counted from the element.
const (
	pageHeader    = 16
	pageBranch    = 0x01
	pageLeaf      = 0x02
	leafBucket    = 0x01 // of a leaf's element: its value is a bucket
	bucketHeader  = 16   // root page, sequence; a bucket without a root page is inline
	metaLength    = 64
	metaMagic     = 0xed0cdaed
	pageOverflows = 1 << 20 // pages that one element can span, far beyond ours
)

// pageFile walks the pages of a bbolt file. bbolt trusts the offsets in them: a wrong one
// in an inline bucket, which it copies to the heap, becomes a pointer to nowhere that ends
// the process when the collector meets it. No recover helps against that.
type pageFile struct {
	file  io.ReaderAt
	size  uint64 // of a page, in bytes
	pages uint64 // that there are
	seen  map[uint64]bool
}

// checkPages refuses a file whose pages point outside of themselves. A file without a
// valid head is left to bbolt, which says so.
func checkPages(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open metadata: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("open metadata: %w", err)
	}
	p := &pageFile{file: file, size: uint64(os.Getpagesize()), seen: map[uint64]bool{}}
	p.pages = uint64(info.Size()) / p.size
	root, ok := p.root()
	if !ok {
		return nil
	}
	return p.page(root)
}

// root returns the root page of the newest valid head.
func (p *pageFile) root() (root uint64, ok bool) {
	newest := uint64(0)
	for number := range uint64(2) {
		meta := make([]byte, metaLength)
		if _, err := p.file.ReadAt(meta, int64(number*p.size+pageHeader)); err != nil {
			continue
		}
		sum := fnv.New64a()
		_, _ = sum.Write(meta[:metaLength-8]) // a hash takes everything
		word := func(at int) uint64 { return binary.LittleEndian.Uint64(meta[at:]) }
		valid := binary.LittleEndian.Uint32(meta) == metaMagic && sum.Sum64() == word(56)
		if tx := word(48); valid && (!ok || tx > newest) {
			root, newest, ok = word(16), tx, true
		}
	}
	return root, ok
}

// page checks a page and everything below it.
func (p *pageFile) page(number uint64) error {
	if number < 2 || number >= p.pages || p.seen[number] {
		return corrupt("page %d of the metadata cannot be where it is named", number)
	}
	p.seen[number] = true
	head := make([]byte, pageHeader)
	if _, err := p.file.ReadAt(head, int64(number*p.size)); err != nil {
		return fmt.Errorf("read page %d of the metadata: %w", number, err)
	}
	overflow := uint64(binary.LittleEndian.Uint32(head[12:]))
	if overflow > pageOverflows || number+overflow >= p.pages || binary.LittleEndian.Uint64(head) != number {
		return corrupt("page %d of the metadata contradicts itself", number)
	}
	content := make([]byte, (overflow+1)*p.size)
	if _, err := p.file.ReadAt(content, int64(number*p.size)); err != nil {
		return fmt.Errorf("read page %d of the metadata: %w", number, err)
	}
	return p.elements(number, content)
}

// elements checks a page's elements, or those of an inline bucket.
func (p *pageFile) elements(number uint64, content []byte) error {
	flags := binary.LittleEndian.Uint16(content[8:])
	count := uint64(binary.LittleEndian.Uint16(content[10:]))
	if flags != pageBranch && flags != pageLeaf || pageHeader*(count+1) > uint64(len(content)) {
		return corrupt("page %d of the metadata has no elements where they should be", number)
	}
	for i := range count {
		element := content[pageHeader*(i+1):]
		word := func(n int) uint64 { return uint64(binary.LittleEndian.Uint32(element[4*n:])) }
		if flags == pageBranch {
			if word(0)+word(1) > uint64(len(element)) {
				return corrupt("page %d of the metadata points outside of itself", number)
			}
			if err := p.page(binary.LittleEndian.Uint64(element[8:])); err != nil {
				return err
			}
			continue
		}
		value := word(1) + word(2)
		if value+word(3) > uint64(len(element)) {
			return corrupt("page %d of the metadata points outside of itself", number)
		}
		if word(0)&leafBucket == 0 {
			continue
		}
		if err := p.bucket(number, element[value:value+word(3)]); err != nil {
			return err
		}
	}
	return nil
}

func (p *pageFile) bucket(number uint64, value []byte) error {
	if len(value) < bucketHeader {
		return corrupt("page %d of the metadata holds half a bucket", number)
	}
	if root := binary.LittleEndian.Uint64(value); root != 0 {
		return p.page(root)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader || binary.LittleEndian.Uint16(inline[8:]) != pageLeaf {
		return corrupt("page %d of the metadata holds half a bucket", number)
	}
	return p.elements(number, inline)
}
