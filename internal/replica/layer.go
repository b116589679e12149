package replica

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"tidemark/events"
	"tidemark/internal/vfs"
)

// layer is one file of data with the table of its objects, standing on another layer or
// on nothing. Only an image's active layer is written to. What a layer does not have is
// read from the one below it: see chain.go.
//
// A byte of the image lies at the same offset of the file. The bitmap rules: a block
// that is not allocated is not read, and may hold anything in the file (what a crash
// left, what a punch has not reached yet), so a write that fills it in part writes
// around it what the block showed before. A block that is allocated lies in the file with
// its whole length. Behind the end of an image its last block holds zeroes.
type layer struct {
	id         LayerID
	number     uint32         // of its file
	owner      events.ImageID // the image that it was made for
	objectSize uint64
	file       vfs.File
	zeroes     []byte // one block of zeroes, never written

	// What follows is changed with Replica.chain held and, of an active layer, all
	// stripes of its image.
	parent   *layer
	size     uint64          // bytes, of the image or snapshot that it holds
	overlap  uint64          // bytes of the parent that show through, in whole blocks; never grows
	floor    events.Position // version of objects that are not touched here; 0: the parent's
	floorEnd uint64          // bytes: where the floor ends to hold
	objects  *table

	// What follows is the applier's (Replica.applying).
	used     uint64   // blocks allocated
	filled   uint64   // objects that have blocks
	records  uint64   // objects that the metadata hold
	changed  []uint64 // indices of objects that are dirty, some perhaps no more
	gone     []uint64 // indices of recorded objects that were dropped
	unsynced bool     // the file changed since it was last synced
	written  uint64   // bytes that entries wrote since then
	stale    bool     // its own record differs from the metadata
	recorded bool     // the metadata hold a record of it
	buffer   []byte   // one block, made when first needed
	pulled   uint64   // objects before this one show nothing from below: see pullStep
}

func layerPath(dir string, number uint32) string {
	return filepath.Join(dir, layersFolder, strconv.FormatUint(uint64(number), 10)+layerSuffix)
}

func (l *layer) readFile(off uint64, p []byte) error {
	n, err := l.file.ReadAt(p, int64(off))
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return corrupt("layer %d ends at byte %d, inside of allocated blocks", l.id, off+uint64(n))
	}
	return fmt.Errorf("read %d bytes at %d of layer %d: %w", len(p), off, l.id, err)
}

func (l *layer) writeFile(off uint64, p []byte) error {
	if _, err := l.file.WriteAt(p, int64(off)); err != nil {
		return fmt.Errorf("write %d bytes at %d of layer %d: %w", len(p), off, l.id, err)
	}
	return nil
}

// write puts pieces of data, one behind the other, at bytes [from, to) of an object. The
// stripe is held for writing, as it is for zero and discard.
func (l *layer) write(o *object, index, from, to uint64, pieces [][]byte) error {
	first, last := from/BlockSize, (to-1)/BlockSize
	l.unsynced = true
	headDone := false
	if pad := from % BlockSize; pad != 0 && !o.blocks.has(first) {
		if err := l.fill(o, index, first, pad, 0); err != nil {
			return err
		}
		headDone = first == last && l.shows(o, index, first) // the whole block is there
	}
	if pad := (last+1)*BlockSize - to; pad != 0 && !headDone && !o.blocks.has(last) {
		if err := l.fill(o, index, last, 0, pad); err != nil {
			return err
		}
	}
	l.written += to - from
	if err := l.writePieces(index*l.objectSize+from, to-from, pieces); err != nil {
		return err
	}
	l.allocate(o, first, last+1)
	return nil
}

func (l *layer) writePieces(off, length uint64, pieces [][]byte) error {
	if len(pieces) == 1 {
		return l.writeFile(off, pieces[0])
	}
	if err := l.file.WriteVector(pieces, int64(off)); err != nil {
		return fmt.Errorf("write %d bytes at %d of layer %d: %w", length, off, l.id, err)
	}
	return nil
}

// fill prepares a block that is about to be allocated and written in part: it puts there
// what the block shows, or zeroes into its first head and last tail bytes.
func (l *layer) fill(o *object, index, block, head, tail uint64) error {
	at := index*l.objectSize + block*BlockSize
	if l.shows(o, index, block) {
		if l.buffer == nil {
			l.buffer = make([]byte, BlockSize)
		}
		if err := l.parent.read(index, block*BlockSize, l.buffer); err != nil {
			return err
		}
		return l.writeFile(at, l.buffer)
	}
	if head > 0 {
		return l.writeFile(at, l.zeroes[:head])
	}
	return l.writeFile(at+BlockSize-tail, l.zeroes[:tail])
}

// zero makes bytes [from, to) of an object read as zeroes and allocates their blocks.
func (l *layer) zero(o *object, index, from, to uint64) error {
	base := index * l.objectSize
	first, last := from/BlockSize, (to-1)/BlockSize
	l.unsynced = true
	head, tail := from%BlockSize != 0, to%BlockSize != 0
	if head && l.shows(o, index, first) {
		if err := l.fill(o, index, first, 0, 0); err != nil {
			return err
		}
	} else if !o.blocks.has(first) {
		from = first * BlockSize
	}
	if tail && l.shows(o, index, last) {
		if !head || first != last {
			if err := l.fill(o, index, last, 0, 0); err != nil {
				return err
			}
		}
	} else if !o.blocks.has(last) {
		to = (last + 1) * BlockSize
	}
	if err := l.file.ZeroRange(int64(base+from), int64(to-from)); err != nil {
		return fmt.Errorf("zero %d bytes at %d of layer %d: %w", to-from, base+from, l.id, err)
	}
	l.allocate(o, first, last+1)
	return nil
}

// discard frees the whole blocks of bytes [from, to) of an object, hides what lies below
// them, and zeroes the parts at the ends. It does not punch the file.
func (l *layer) discard(o *object, index, from, to uint64) error {
	first, end := (from+BlockSize-1)/BlockSize, to/BlockSize
	if from%BlockSize != 0 {
		if err := l.zeroPart(o, index, from, min(to, first*BlockSize)); err != nil {
			return err
		}
	}
	if to%BlockSize != 0 && end >= first {
		if err := l.zeroPart(o, index, end*BlockSize, to); err != nil {
			return err
		}
	}
	if first < end {
		l.free(o, first, end)
		if shown := l.shownBlocks(index); first < shown {
			l.objects.hide(o, first, min(end, shown))
		}
	}
	return nil
}

// zeroPart zeroes a part of one block, unless that reads as zeroes anyway.
func (l *layer) zeroPart(o *object, index, from, to uint64) error {
	block := from / BlockSize
	if !o.blocks.has(block) {
		if !l.shows(o, index, block) {
			return nil
		}
		if err := l.fill(o, index, block, 0, 0); err != nil {
			return err
		}
		l.allocate(o, block, block+1)
	}
	l.unsynced = true
	return l.writeFile(index*l.objectSize+from, l.zeroes[:to-from])
}

// punch gives the space of blocks in the file back.
func (l *layer) punch(from, to uint64) error {
	if from >= to {
		return nil
	}
	l.unsynced = true
	if err := l.file.PunchHole(int64(from), int64(to-from)); err != nil {
		return fmt.Errorf("punch %d bytes at %d of layer %d: %w", to-from, from, l.id, err)
	}
	return nil
}

func (l *layer) allocate(o *object, from, to uint64) {
	if o.blocks == nil {
		l.filled++
	}
	l.used += uint64(l.objects.set(o, from, to))
}

func (l *layer) free(o *object, from, to uint64) {
	if o.blocks == nil {
		return
	}
	l.used -= uint64(l.objects.clear(o, from, to))
	if o.blocks == nil {
		l.filled--
	}
}

// replace gives an object other bitmaps, which become its own.
func (l *layer) replace(o *object, blocks, hidden *bitmap) {
	l.free(o, 0, uint64(l.objects.full.count))
	o.blocks, o.hidden = l.objects.compact(blocks), l.objects.compact(hidden)
	if o.blocks != nil {
		l.filled++
		l.used += uint64(blocks.count)
	}
}

// forget takes an object out of the layer, as if it had never been touched.
func (l *layer) forget(o *object, index uint64) {
	l.free(o, 0, uint64(l.objects.full.count))
	if o.flags&recorded != 0 {
		l.gone = append(l.gone, index)
	}
	*o = object{}
}

// touch notes that an object must be recorded by the next checkpoint.
func (l *layer) touch(o *object, index uint64) {
	if o.flags&dirty == 0 {
		o.flags |= dirty
		l.changed = append(l.changed, index)
	}
}

// drop forgets the objects from index first on; lost counts those that were missing.
// All stripes are held.
func (l *layer) drop(first uint64) (lost int) {
	l.objects.touched(first, func(index uint64, o *object) bool {
		if o.flags&missing != 0 {
			lost++
		}
		l.forget(o, index)
		return true
	})
	return lost
}
