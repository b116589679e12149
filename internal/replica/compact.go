package replica

import (
	"context"
	"sync"

	"tidemark/events"
	"tidemark/internal/fault"
)

// stepSize bounds a step of compaction: the applier waits meanwhile.
type stepSize struct {
	bytes   uint64 // copied, about
	objects int    // moved
}

func defaultStep() stepSize { return stepSize{bytes: 4 << 20, objects: 1024} }

// Compact takes one bounded step of giving back the space that removed snapshots and
// cut-off parents hold, and reports whether there is more to do at once; what is left may have
// to wait for a moment with fewer writes. It changes no content and
// no version, is local and not logged, and writes go on between two steps. It does
// nothing while a first sync runs or has not caught up, nor while [Replica.HoldCompaction]
// is in force. It makes checkpoints; the space returns with the one that follows.
//
// A step that fails for want of space or by an error of the file has changed nothing.
func (r *Replica) Compact(ctx context.Context) (more bool, err error) {
	r.compacting.Lock()
	defer r.compacting.Unlock()
	if err := ctx.Err(); err != nil {
		return false, err
	}
	r.applying.Lock()
	w, err := r.nextWork()
	r.applying.Unlock()
	if err != nil || w == (work{}) {
		return false, err
	}
	// What merges is in the metadata before a byte moves, and so are most objects.
	if _, err := r.checkpoint(); err != nil {
		return false, err
	}
	r.checkpointing.Lock()
	defer r.checkpointing.Unlock()
	r.applying.Lock()
	defer r.applying.Unlock()
	if again, err := r.nextWork(); err != nil || again != w {
		return err == nil, err
	}
	if w.lower == nil {
		_, err := r.pullStep(w.upper)
		return err == nil, err
	}
	return r.mergeStep(w.lower, w.upper)
}

// Pull takes one bounded step of copying into a clone's own layers what it still reads
// from its parent's, whether it was flattened or is about to be, and returns how many
// objects are left to be looked at. It changes no content and no version. It fails with
// the code not_ready while compaction may not run: see [Replica.Compact].
func (r *Replica) Pull(ctx context.Context, image events.ImageID) (left uint64, err error) {
	r.compacting.Lock()
	defer r.compacting.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := r.saveRaised(); err != nil {
		return 0, err
	}
	r.applying.Lock()
	defer r.applying.Unlock()
	img := r.images[image]
	if img == nil {
		return 0, fault.New(fault.NotFound, "pull image %d: %w", image, ErrNotFound)
	}
	l := img.root()
	if l.parent == nil {
		return 0, nil
	}
	if err := r.usable(); err != nil {
		return 0, err
	}
	if r.held() {
		return 0, fault.New(fault.NotReady, "pull image %d: layers may not be merged now", image)
	}
	return r.pullStep(l)
}

// saveRaised takes a checkpoint if the last one has objects in layers from which they were
// moved up since: what is pulled would be written over them. compacting is held.
func (r *Replica) saveRaised() error {
	r.checkpointing.Lock() // one that is under way has not saved anything yet
	r.applying.Lock()
	raised := r.raised
	r.applying.Unlock()
	r.checkpointing.Unlock()
	if !raised {
		return nil
	}
	_, err := r.checkpoint()
	return err
}

// HoldCompaction keeps layers from being merged until release is called, once or more: a
// source of a first sync holds it from [Replica.SyncStart] until the last object is copied.
func (r *Replica) HoldCompaction() (release func()) {
	r.applying.Lock()
	defer r.applying.Unlock()
	r.holds++
	var once sync.Once
	return func() {
		once.Do(func() {
			r.applying.Lock()
			defer r.applying.Unlock()
			r.holds--
		})
	}
}

// held reports whether layers have to stay as they are.
func (r *Replica) held() bool { return r.holds > 0 || r.syncing || r.catchingUp() }

// work is what compaction does next: it merges two layers, or pulls into the upper one what
// it shows of those below it.
type work struct{ lower, upper *layer }

// nextWork finds the lowest pair of layers that are to become one, else a layer that is to
// be cut from those of another image. applying is held.
func (r *Replica) nextWork() (work, error) {
	if err := r.usable(); err != nil || r.held() {
		return work{}, err
	}
	kept := make(map[*layer]bool, len(r.snapshots))
	for _, s := range r.snapshots {
		kept[s.layer] = true
	}
	children := make(map[*layer]int, len(r.layers))
	for _, l := range r.layers {
		children[l.parent]++
	}
	var found work
	for _, l := range r.layers {
		if p := l.parent; p != nil && !kept[p] && children[p] == 1 && (found.lower == nil || p.id < found.lower.id) {
			found = work{p, l}
		}
	}
	if found.lower != nil {
		return found, nil
	}
	for _, img := range r.images {
		if l := img.root(); img.parent == nil && l.parent != nil && (found.upper == nil || l.id < found.upper.id) {
			found.upper = l
		}
	}
	return found, nil
}

// root returns the lowest layer that is the image's own: a clone's stands on its parent's.
func (img *Image) root() *layer {
	l := img.active
	for l.parent != nil && l.parent.owner == img.id {
		l = l.parent
	}
	return l
}

// hole is a range of blocks of an object that are not allocated any more. Unlike what an
// entry frees, which its replay frees again, they may be punched only when the metadata
// have forgotten them.
type hole struct {
	layer    *layer
	index    uint64
	from, to uint64 // blocks
}

// punchFreed punches what compaction freed before the checkpoint that was just made, as
// far as it was not allocated again. checkpointing and applying are held.
func (r *Replica) punchFreed(freed []hole) error {
	for _, h := range freed {
		l := h.layer
		if r.layers[l.id] != l {
			continue // its file is gone
		}
		var blocks *bitmap
		if o := l.objects.get(h.index); o != nil {
			blocks = o.blocks
		}
		base := h.index * l.objectSize
		for at := h.from; at < h.to; {
			allocated, end := blocks.run(at, h.to)
			if !allocated {
				if err := l.punch(base+at*BlockSize, base+end*BlockSize); err != nil {
					return r.fail(err)
				}
			}
			at = end
		}
	}
	return nil
}

// lockLayer protects all of a layer, and what stands on what, from readers until the
// returned function is called. applying is held.
func (r *Replica) lockLayer(l *layer) (unlock func()) {
	img := r.images[l.owner]
	if img == nil || img.active != l {
		r.chain.Lock()
		return r.chain.Unlock
	}
	img.lockAll()
	r.chain.Lock()
	return func() {
		r.chain.Unlock()
		img.unlockAll()
	}
}
