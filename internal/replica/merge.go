package replica

import "fmt"

// mergeStep moves some objects of two layers that are to become one: those of the smaller
// into the larger. The lower one is seen by nothing but the upper. again says that the next
// step can go on at once; otherwise all that is left was changed since the last checkpoint.
func (r *Replica) mergeStep(lower, upper *layer) (again bool, err error) {
	if !aligned(lower, upper) {
		r.align(lower, upper)
	}
	if lower.used <= upper.used {
		done, err := r.moveObjects(lower, 0, func(index uint64, o *object) (uint64, error) { return r.raise(lower, upper, index, o) })
		if err == nil && done {
			r.dissolve(lower, upper)
		}
		return err == nil, err
	}
	sink := func(index uint64, o *object) (uint64, error) { return r.sink(lower, upper, index, o) }
	done, err := r.moveObjects(upper, dirty, sink)
	if err != nil || !done {
		return err == nil, err
	}
	// What is left is dirty. If it is little, nothing is applied until it is moved too; else
	// it has to wait for a later checkpoint. One for each step would be in vain for as long
	// as as much is written in the meantime.
	if upper.used*BlockSize > r.step.bytes {
		return false, nil
	}
	if upper.objects.any() {
		snap, err := r.gather()
		if err != nil {
			return false, err
		}
		if _, err := r.commit(snap); err != nil {
			return false, err
		}
		if snap != nil {
			r.freed = append(r.freed, snap.freed...) // for the next checkpoint
		}
		if done, err := r.moveObjects(upper, dirty, sink); err != nil || !done {
			return err == nil, err
		}
	}
	r.replaceBy(lower, upper)
	return true, nil
}

// moveObjects calls move, which returns how many bytes it copied, with the objects of a
// layer until a step is full, but for those with one of the flags in but. done says that it
// came to the end.
func (r *Replica) moveObjects(l *layer, but objectFlags, move func(index uint64, o *object) (uint64, error)) (done bool, err error) {
	bytes, moved := uint64(0), 0
	done = true
	l.objects.touched(0, func(index uint64, o *object) bool {
		if o.version == 0 || o.flags&but != 0 {
			return true
		}
		var n uint64
		n, err = move(index, o)
		bytes += n
		moved++
		done = err == nil && bytes < r.step.bytes && moved < r.step.objects
		return done
	})
	return done, err
}

// aligned reports whether the upper layer shows all of the lower one as it is, so that it
// makes no difference in which of them an object is.
func aligned(lower, upper *layer) bool {
	return upper.overlap == blockEnd(upper.size) && upper.floor == 0 && lower.size == upper.size
}

// align takes from the lower layer what the upper one does not show of it, and gives it
// the upper one's floor and size.
func (r *Replica) align(lower, upper *layer) {
	defer r.lockLayer(upper)()
	blocks := lower.objectSize / BlockSize
	lower.objects.touched(0, func(index uint64, o *object) bool {
		shown := upper.shownBlocks(index)
		if o.version == 0 {
			return true
		}
		if o.blocks != nil && shown < blocks {
			r.freed = append(r.freed, hole{lower, index, shown, blocks})
		}
		if shown == 0 {
			lower.forget(o, index)
			return true
		}
		floored := upper.floor != 0 && index*lower.objectSize < upper.floorEnd
		if shown < blocks {
			lower.free(o, shown, blocks)
			o.hidden, _ = lower.objects.without(o.hidden, shown, blocks)
		}
		if floored {
			o.version = upper.floor
		}
		if floored || shown < blocks {
			lower.touch(o, index)
		}
		return true
	})
	if upper.floor != 0 {
		lower.floor, lower.floorEnd = upper.floor, upper.floorEnd
	} else {
		lower.floorEnd = min(lower.floorEnd, upper.overlap)
	}
	lower.overlap, lower.size = min(lower.overlap, upper.overlap), upper.size
	lower.objects = lower.objects.resized(objectCount(upper.size, upper.objectSize))
	upper.overlap, upper.floor, upper.floorEnd = blockEnd(upper.size), 0, 0
	lower.stale, upper.stale, r.altered = true, true, true
}

// sink moves an object from the upper layer down. Its data overwrite only what the upper
// layer covers, and the object is as the last checkpoint has it: so whatever a crash
// leaves of it in the lower file is not seen.
func (r *Replica) sink(lower, upper *layer, index uint64, o *object) (uint64, error) {
	n, err := copyBlocks(lower, upper, index, o.blocks)
	if err != nil {
		return 0, err
	}
	defer r.lockObject(upper, index)()
	below := lower.objects.make(index)
	all := uint64(lower.objects.full.count)
	_ = o.blocks.runs(all, func(from, to uint64) error { // fails only where f does
		lower.allocate(below, from, to)
		r.freed = append(r.freed, hole{upper, index, from, to})
		return nil
	})
	_ = o.hidden.runs(all, func(from, to uint64) error {
		lower.free(below, from, to)
		if shown := lower.shownBlocks(index); from < shown {
			lower.objects.hide(below, from, min(to, shown))
		}
		r.freed = append(r.freed, hole{lower, index, from, to})
		return nil
	})
	below.version = o.version
	lower.touch(below, index)
	upper.forget(o, index)
	return n, nil
}

// raise moves an object from the lower layer up: those blocks that show. They go to where
// nothing is allocated, so a crash leaves nothing that is seen. Until the next checkpoint
// their old places must stay as they are: see saveRaised.
func (r *Replica) raise(lower, upper *layer, index uint64, o *object) (uint64, error) {
	above := upper.objects.make(index)
	shown := o.blocks.except(above.blocks, above.hidden)
	n, err := copyBlocks(upper, lower, index, shown)
	if err != nil {
		return 0, err
	}
	defer r.lockObject(upper, index)()
	all := uint64(upper.objects.full.count)
	hidden := o.hidden.except(above.blocks, above.hidden)
	_ = shown.runs(all, func(from, to uint64) error { // fails only where f does
		upper.allocate(above, from, to)
		return nil
	})
	_ = hidden.runs(all, func(from, to uint64) error {
		upper.objects.hide(above, from, to)
		return nil
	})
	if above.version == 0 {
		above.version = o.version
	}
	upper.touch(above, index)
	lower.forget(o, index)
	r.raised = true
	return n, nil
}

// copyBlocks copies blocks of an object from one layer's file to another's.
func copyBlocks(to, from *layer, index uint64, blocks *bitmap) (n uint64, err error) {
	const chunk = 64 // blocks
	base := index * from.objectSize
	err = blocks.runs(from.objectSize/BlockSize, func(first, end uint64) error {
		for ; first < end; first = min(end, first+chunk) {
			p := make([]byte, (min(end, first+chunk)-first)*BlockSize)
			if err := from.readFile(base+first*BlockSize, p); err != nil {
				return err
			}
			to.unsynced = true
			if err := to.writeFile(base+first*BlockSize, p); err != nil {
				return err
			}
			n += uint64(len(p))
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("copy %s to layer %d: %w", layerObjectName(from.id, index), to.id, err)
	}
	return n, nil
}

// dissolve takes an emptied layer out from under the one that it was raised into.
func (r *Replica) dissolve(lower, upper *layer) {
	defer r.lockLayer(upper)()
	upper.parent, upper.overlap = lower.parent, lower.overlap
	upper.floor, upper.floorEnd = lower.floor, lower.floorEnd
	upper.stale = true
	r.dropLayer(lower)
}

// replaceBy puts a layer in the place of the emptied one above it, whose number and
// viewers it takes over.
func (r *Replica) replaceBy(lower, upper *layer) {
	// Readers look whether an image's own layer stands on another before they hold the chain.
	for _, img := range r.images {
		if img.active.parent == upper {
			img.lockAll()
			defer img.unlockAll()
		}
	}
	defer r.lockLayer(upper)()
	if lower.recorded {
		r.goneLayers = append(r.goneLayers, lower.id)
	}
	gone, recorded := lower.id, upper.recorded
	upper.recorded = false // its record is the lower one's now
	r.dropLayer(upper)
	r.mu.Lock()
	delete(r.layers, gone)
	lower.id, lower.owner, lower.stale, lower.recorded = upper.id, upper.owner, true, recorded
	r.layers[lower.id] = lower
	r.mu.Unlock()
	for _, l := range r.layers {
		if l.parent == upper {
			l.parent = lower
		}
	}
	for _, s := range r.snapshots {
		if s.layer == upper {
			s.layer = lower
		}
	}
	if img := r.images[lower.owner]; img != nil && img.active == upper {
		img.active = lower
	}
}

// pullStep copies into a layer some of what it shows of those below it, which others may
// show too, and returns how many objects are still to be looked at. With the last one the
// layer stands on nothing any more.
func (r *Replica) pullStep(l *layer) (left uint64, err error) {
	end := min(objectCount(l.overlap, l.objectSize), l.objects.count)
	for bytes := uint64(0); l.pulled < end && bytes < r.step.bytes; l.pulled++ {
		n, err := r.pullObject(l, l.pulled)
		if err != nil {
			return 0, err
		}
		bytes += n
	}
	if l.pulled < end {
		return end - l.pulled, nil
	}
	defer r.lockLayer(l)()
	parent := l.parent
	l.parent, l.overlap, l.stale, r.altered = nil, 0, true, true
	r.sweep(parent)
	return 0, nil
}

// pullObject copies into a layer what it shows of an object from below.
func (r *Replica) pullObject(l *layer, index uint64) (n uint64, err error) {
	shown := l.visible(index, make([]uint64, len(l.objects.full.words)))
	if o := l.objects.get(index); o != nil {
		shown = shown.except(o.blocks, nil)
	}
	if shown.count == 0 {
		return 0, nil
	}
	base := index * l.objectSize
	err = shown.runs(uint64(l.objects.full.count), func(from, to uint64) error {
		p := make([]byte, (to-from)*BlockSize)
		if err := l.parent.read(index, from*BlockSize, p); err != nil {
			return err
		}
		l.unsynced = true
		n += uint64(len(p))
		return l.writeFile(base+from*BlockSize, p)
	})
	if err != nil {
		return 0, fmt.Errorf("pull %s: %w", layerObjectName(l.id, index), err)
	}
	version := l.version(index)
	defer r.lockObject(l, index)()
	o := l.objects.make(index)
	_ = shown.runs(uint64(l.objects.full.count), func(from, to uint64) error { // fails only where f does
		l.allocate(o, from, to)
		return nil
	})
	o.version = version
	l.touch(o, index)
	return n, nil
}
