package replica

import (
	"errors"
	"fmt"

	"tidemark/events"
	"tidemark/internal/fault"
)

// ErrNotRepairable is returned for blocks whose content cannot be put right where it lies,
// because it lies where it should not: what is known of them is wrong, not what they hold.
var ErrNotRepairable = errors.New("the metadata of this copy differ from the source's")

// RepairAt overwrites blocks of an image's object with other content when the object has
// exactly a version, as soon as it has: never otherwise. repair names the blocks and holds
// what belongs there at that version. Nothing but data changes: each block is written to
// the layer that a read of it comes to. Where that is none, or one from which snapshots read
// the same block, it fails with [ErrNotRepairable] and nothing is written: snapshots are
// repaired first, and what they share with the image is right then.
//
// The next checkpoint makes it durable. Waiting is as at [Replica.DigestAt].
func (r *Replica) RepairAt(image events.ImageID, index uint64, repair ObjectCopy) (*Witness, error) {
	return r.witness(image, index, repair.Version, func(l *layer) error {
		r.chain.Lock()
		defer r.chain.Unlock()
		return r.repair(l, index, repair, func(*Snapshot) bool { return true })
	})
}

// RepairSnapshot is [Replica.RepairAt] for a snapshot, whose content never changes. Blocks
// that an earlier snapshot reads as well are [ErrNotRepairable].
func (r *Replica) RepairSnapshot(v View, index uint64, repair ObjectCopy) error {
	r.applying.Lock()
	defer r.applying.Unlock()
	if err := r.usable(); err != nil {
		return err
	}
	_, snapshot, err := r.view(v)
	switch {
	case err != nil:
		return err
	case snapshot == nil:
		return fault.New(fault.Usage, "%v is no snapshot", v)
	}
	r.chain.Lock()
	defer r.chain.Unlock()
	return r.repair(snapshot.layer, index, repair, func(s *Snapshot) bool { return s.position < snapshot.position })
}

// repair overwrites blocks that a layer shows, unless a snapshot that has a say reads them
// too. applying, chain and the object's stripe are held.
func (r *Replica) repair(l *layer, index uint64, repair ObjectCopy, hasSay func(*Snapshot) bool) error {
	which := checkedBitmap(repair.Blocks, l.objects.full)
	if which == nil || index >= l.objects.count || which.count*BlockSize != len(repair.Data) {
		return corrupt("a repair of object %d with %d bytes contradicts itself", index, len(repair.Data))
	}
	targets := make([]*layer, 0, which.count)
	var blocks []uint64
	err := which.runs(l.objectSize/BlockSize, func(from, to uint64) error {
		for block := from; block < to; block++ {
			target := l.holding(index, block)
			if target == nil || r.readElsewhere(target, index, block, hasSay) {
				return fmt.Errorf("block %d of object %d: %w", block, index, ErrNotRepairable)
			}
			targets, blocks = append(targets, target), append(blocks, block)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, target := range targets {
		target.unsynced = true
		if err := target.writeFile(index*l.objectSize+blocks[i]*BlockSize, repair.Data[i*BlockSize:][:BlockSize]); err != nil {
			return r.fail(err)
		}
	}
	r.altered = true // so that the next checkpoint syncs it, whatever else there is
	return nil
}

// holding returns the layer in whose file a block lies that l shows; nil if it reads as
// zeroes because it lies in none.
func (l *layer) holding(index, block uint64) *layer {
	for {
		if o := l.objects.get(index); o != nil {
			switch {
			case o.blocks.has(block):
				return l
			case o.hidden.has(block):
				return nil
			}
		}
		if block >= l.shownBlocks(index) {
			return nil
		}
		l = l.parent
	}
}

// readElsewhere reports whether a snapshot that has a say reads a block from the same layer.
func (r *Replica) readElsewhere(target *layer, index, block uint64, hasSay func(*Snapshot) bool) bool {
	for _, s := range r.snapshots {
		if hasSay(s) && index < s.layer.objects.count && s.layer.objectSize == target.objectSize && s.layer.holding(index, block) == target {
			return true
		}
	}
	return false
}
