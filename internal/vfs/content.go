package vfs

import "maps"

const (
	pageSize   = 4096
	sectorSize = 512 // what a disk writes whole or not at all
)

// content is a sparse file in memory. Pages are never changed once shared by a clone.
type content struct {
	size  int64
	pages map[int64]*[pageSize]byte
}

func newContent() *content { return &content{pages: make(map[int64]*[pageSize]byte)} }

func (c *content) clone() *content { return &content{c.size, maps.Clone(c.pages)} }

// fill writes data, or zeroes when data is nil, at [off, off+length).
func (c *content) fill(off, length int64, data []byte) {
	for done := int64(0); done < length; {
		at := off + done
		within := at % pageSize
		n := min(pageSize-within, length-done)
		var page [pageSize]byte
		if old := c.pages[at/pageSize]; old != nil {
			page = *old
		}
		if data == nil {
			clear(page[within : within+n])
		} else {
			copy(page[within:within+n], data[done:done+n])
		}
		c.pages[at/pageSize] = &page
		done += n
	}
}

func (c *content) truncate(size int64) {
	if size < c.size {
		for i := range c.pages {
			if i*pageSize >= size {
				delete(c.pages, i)
			}
		}
		if rest := size % pageSize; rest != 0 && c.pages[size/pageSize] != nil {
			c.fill(size, pageSize-rest, nil)
		}
	}
	c.size = size
}

// change is one operation on a file's content.
type change struct {
	kind   OpKind // OpWrite, OpTruncate, OpPunchHole or OpZeroRange
	off    int64  // for OpTruncate the new size
	length int64
	data   []byte // for OpWrite
}

// apply changes the part of the content for which keep returns true, sector by
// sector; a change of size is one sector.
func (g change) apply(c *content, keep func() bool) {
	if g.kind == OpTruncate {
		if keep() {
			c.truncate(g.off)
		}
		return
	}
	end := g.off + g.length
	if g.kind == OpPunchHole {
		end = min(end, c.size)
	}
	for at := g.off; at < end; {
		from, kept := at, false
		for at < end { // a run of sectors that are kept
			kept = keep()
			if !kept {
				break
			}
			at = min((at/sectorSize+1)*sectorSize, end)
		}
		if at > from {
			var data []byte
			if g.data != nil {
				data = g.data[from-g.off : at-g.off]
			}
			c.fill(from, at-from, data)
			c.size = max(c.size, at)
		}
		if !kept {
			at = min((at/sectorSize+1)*sectorSize, end)
		}
	}
}
