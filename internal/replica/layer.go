package replica

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"tidemark/internal/vfs"
)

// layer is one file of data with the table of its objects. Today an image has one, its
// active layer; a chain of them is where overlays go: reads fall through a layer's
// unallocated objects to the one below.
//
// A byte of the image lies at the same offset of the file. The bitmap rules: a block
// that is not allocated reads as zeroes and may hold anything in the file (what a crash
// left, what a punch has not reached yet), so a write that fills it in part writes
// zeroes around. A block that is allocated lies in the file with its whole length.
type layer struct {
	number     uint32
	objectSize uint64
	file       vfs.File
	zeroes     []byte // one block of zeroes, never written
	objects    *table // replaced with all stripes held

	// What follows is the applier's (Replica.applying).
	used     uint64   // blocks allocated
	filled   uint64   // objects that have blocks
	records  uint64   // objects that the metadata hold
	changed  []uint64 // indices of objects that are dirty, some perhaps no more
	gone     []uint64 // indices of recorded objects that were dropped
	unsynced bool     // the file changed since it was last synced
}

func layerPath(dir string, number uint32) string {
	return filepath.Join(dir, layersFolder, strconv.FormatUint(uint64(number), 10)+layerSuffix)
}

// read fills p with what an object holds from byte from on. The object's stripe is held.
func (l *layer) read(o *object, base, from uint64, p []byte) error {
	switch {
	case o == nil || o.blocks == nil:
		clear(p)
		return nil
	case o.blocks == l.objects.full:
		return l.readFile(base+from, p)
	}
	to := from + uint64(len(p))
	for at := from; at < to; {
		allocated, end := o.blocks.run(at/BlockSize, (to+BlockSize-1)/BlockSize)
		next := min(to, end*BlockSize)
		piece := p[at-from : next-from]
		if !allocated {
			clear(piece)
		} else if err := l.readFile(base+at, piece); err != nil {
			return err
		}
		at = next
	}
	return nil
}

func (l *layer) readFile(off uint64, p []byte) error {
	n, err := l.file.ReadAt(p, int64(off))
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return corrupt("layer %d ends at byte %d, inside of allocated blocks", l.number, off+uint64(n))
	}
	return fmt.Errorf("read %d bytes at %d of layer %d: %w", len(p), off, l.number, err)
}

func (l *layer) writeFile(off uint64, p []byte) error {
	if _, err := l.file.WriteAt(p, int64(off)); err != nil {
		return fmt.Errorf("write %d bytes at %d of layer %d: %w", len(p), off, l.number, err)
	}
	return nil
}

// write puts data at byte from of an object that begins at base. The stripe is held
// for writing, as it is for zero and discard.
func (l *layer) write(o *object, base, from uint64, data []byte) error {
	to := from + uint64(len(data))
	first, last := from/BlockSize, (to-1)/BlockSize
	l.unsynced = true
	if pad := from % BlockSize; pad != 0 && !o.blocks.has(first) {
		if err := l.writeFile(base+from-pad, l.zeroes[:pad]); err != nil {
			return err
		}
	}
	if pad := (last+1)*BlockSize - to; pad != 0 && !o.blocks.has(last) {
		if err := l.writeFile(base+to, l.zeroes[:pad]); err != nil {
			return err
		}
	}
	if err := l.writeFile(base+from, data); err != nil {
		return err
	}
	l.allocate(o, first, last+1)
	return nil
}

// zero makes bytes [from, to) of an object read as zeroes and allocates their blocks.
func (l *layer) zero(o *object, base, from, to uint64) error {
	first, last := from/BlockSize, (to-1)/BlockSize
	l.unsynced = true
	if !o.blocks.has(first) {
		from = first * BlockSize
	}
	if !o.blocks.has(last) {
		to = (last + 1) * BlockSize
	}
	if err := l.file.ZeroRange(int64(base+from), int64(to-from)); err != nil {
		return fmt.Errorf("zero %d bytes at %d of layer %d: %w", to-from, base+from, l.number, err)
	}
	l.allocate(o, first, last+1)
	return nil
}

// discard frees the whole blocks of bytes [from, to) of an object and zeroes the parts
// at the ends. It does not punch the file.
func (l *layer) discard(o *object, base, from, to uint64) error {
	first, end := (from+BlockSize-1)/BlockSize, to/BlockSize
	if from%BlockSize != 0 && o.blocks.has(from/BlockSize) {
		l.unsynced = true
		if err := l.writeFile(base+from, l.zeroes[:min(to, first*BlockSize)-from]); err != nil {
			return err
		}
	}
	if to%BlockSize != 0 && end >= first && o.blocks.has(end) {
		l.unsynced = true
		if err := l.writeFile(base+end*BlockSize, l.zeroes[:to-end*BlockSize]); err != nil {
			return err
		}
	}
	if first < end {
		l.free(o, first, end)
	}
	return nil
}

// punch gives the space of blocks in the file back.
func (l *layer) punch(from, to uint64) error {
	if from >= to {
		return nil
	}
	l.unsynced = true
	if err := l.file.PunchHole(int64(from), int64(to-from)); err != nil {
		return fmt.Errorf("punch %d bytes at %d of layer %d: %w", to-from, from, l.number, err)
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

// replace gives an object another bitmap.
func (l *layer) replace(o *object, b *bitmap) {
	l.free(o, 0, uint64(l.objects.full.count))
	l.objects.adopt(o, b)
	if o.blocks != nil {
		l.filled++
		l.used += uint64(b.count)
	}
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
		l.free(o, 0, uint64(l.objects.full.count))
		if o.flags&recorded != 0 {
			l.gone = append(l.gone, index)
		}
		if o.flags&missing != 0 {
			lost++
		}
		*o = object{}
		return true
	})
	return lost
}
