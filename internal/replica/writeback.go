package replica

import (
	"fmt"
	"slices"
	"time"
)

// A checkpoint's sync would put all that is dirty into the disk's queue at once, and hold up
// whoever else syncs meanwhile: the log, and with it each flush and operation. So a
// checkpoint first has the layers written back, a bounded amount at a time, until little is
// left for the sync.
const (
	// writebackBytes is how much is under way at once, in bytes, about twice.
	writebackBytes = 2 << 20
	// writebackPasses bounds how often all is gone through, writebackEnough is how short a
	// pass is that makes another one needless: what was written meanwhile is about as much.
	writebackPasses = 3
	writebackEnough = 30 * time.Millisecond
)

// writeBack writes back what was changed since the last checkpoint, but for what is changed
// meanwhile. checkpointing is held.
func (r *Replica) writeBack() error {
	for range writebackPasses {
		begun := time.Now()
		for _, c := range r.unwritten() {
			if err := c.writeBack(); err != nil {
				return r.fail(fmt.Errorf("checkpoint: layer %d: %w", c.layer.id, err))
			}
		}
		if time.Since(begun) < writebackEnough {
			break
		}
	}
	return nil
}

// dirtyLayer is a layer with the objects that may have to be written back.
type dirtyLayer struct {
	layer   *layer
	objects []uint64 // indices, ascending
	piece   uint64   // bytes to be written back at a time
}

// unwritten returns what differs from the metadata, and so perhaps from the disk.
func (r *Replica) unwritten() []dirtyLayer {
	r.applying.Lock()
	defer r.applying.Unlock()
	var out []dirtyLayer
	for _, l := range r.layers {
		if !l.unsynced || len(l.changed) == 0 || r.usable() != nil {
			continue
		}
		d := dirtyLayer{layer: l, objects: slices.Clone(l.changed), piece: l.objectSize}
		for d.piece > writebackBytes && l.written/uint64(len(d.objects))*d.piece/l.objectSize > writebackBytes {
			d.piece /= 2
		}
		out = append(out, d)
	}
	return out
}

// writeBack writes the objects back, one piece while the one before is waited for.
func (d *dirtyLayer) writeBack() error {
	slices.Sort(d.objects)
	before, file := int64(-1), d.layer.file
	for _, index := range d.objects {
		for at := uint64(0); at < d.layer.objectSize; at += d.piece {
			off := int64(index*d.layer.objectSize + at)
			file.StartWriteback(off, int64(d.piece))
			if before >= 0 {
				if err := file.AwaitWriteback(before, int64(d.piece)); err != nil {
					return err
				}
			}
			before = off
		}
	}
	if before < 0 {
		return nil
	}
	return file.AwaitWriteback(before, int64(d.piece))
}
