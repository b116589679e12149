package replica

import (
	"cmp"
	"fmt"
	"iter"
	"slices"

	"tidemark/events"
	"tidemark/internal/fault"
)

// LayerID numbers a layer within its directory, from 1, in the order in which operations
// made them. It is the same on every replica, and never used again.
type LayerID uint32

// LayerRecord is a layer as a first sync carries it.
type LayerRecord struct {
	ID         LayerID         `json:"id"`
	Parent     LayerID         `json:"parent"`      // the layer that it stands on; 0: none
	Owner      events.ImageID  `json:"owner"`       // the image that it was made for
	ObjectSize uint64          `json:"object_size"` // bytes
	Size       uint64          `json:"size"`        // bytes: of the image or snapshot that it holds
	Overlap    uint64          `json:"overlap"`     // bytes of the parent that show through
	Floor      events.Position `json:"floor"`       // version of objects that it does not have; 0: the parent's
	FloorEnd   uint64          `json:"floor_end"`   // bytes: where Floor ends to hold
}

// Layers returns all layers, parents before their children, as they are between two
// messages. A first sync copies the objects of each: [Replica.LayerObjects] lists them at
// the source, [Replica.CopyObject] reads one there, [Replica.InstallObject] puts it here.
//
// A layer that the source no longer has was dropped by an entry behind the sync's start,
// which replay comes to: its objects are left out. That is so while the source holds its
// layers together ([Replica.HoldCompaction]). A sync that was interrupted, so that it may
// not have, goes on only if [SyncStart.Continues] says so.
func (r *Replica) Layers() []LayerRecord {
	r.applying.Lock()
	defer r.applying.Unlock()
	return r.layerRecords()
}

// Continues reports whether the layers of a source are those that a first sync waits for,
// begun from other layers, so that what was copied of them counts: none was merged into
// another, none was taken apart again (the source was killed before it had saved a merge),
// and none may be merged in part, for that nothing would show.
func (s *SyncStart) Continues(waiting []LayerRecord) error {
	now, known, last := make(map[LayerID]LayerRecord, len(s.Layers)), make(map[LayerID]bool, len(waiting)), LayerID(0)
	for _, l := range s.Layers {
		now[l.ID] = l
	}
	for _, l := range waiting {
		known[l.ID], last = true, max(last, l.ID)
		if l.Parent != now[l.ID].Parent || now[l.ID].ID == 0 {
			return fault.New(fault.NotReady, "the source has merged or dropped layer %d, or what it stood on", l.ID)
		}
	}
	children := make(map[LayerID]int, len(s.Layers))
	for _, l := range s.Layers {
		children[l.Parent]++
		if l.ID < last && !known[l.ID] {
			return fault.New(fault.NotReady, "the source has layer %d apart again", l.ID)
		}
	}
	for _, snapshot := range s.Snapshots {
		delete(children, snapshot.Layer)
	}
	for _, l := range s.Layers {
		if children[l.ID] == 1 { // see nextWork
			return fault.New(fault.NotReady, "the source may have merged a part of layer %d", l.ID)
		}
	}
	return nil
}

func (r *Replica) layerRecords() []LayerRecord {
	out := make([]LayerRecord, 0, len(r.layers))
	for _, l := range r.layers {
		out = append(out, l.record())
	}
	slices.SortFunc(out, func(a, b LayerRecord) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// lockObject protects an object of a layer from readers until the returned function is
// called: applying is held.
func (r *Replica) lockObject(l *layer, index uint64) (unlock func()) {
	var s *stripe
	if img := r.images[l.owner]; img != nil && img.active == l {
		s = img.stripe(index)
		s.mu.Lock()
	}
	r.chain.Lock()
	return func() {
		r.chain.Unlock()
		if s != nil {
			s.mu.Unlock()
		}
	}
}

// withObject calls f with an object of a layer, nil if it was never touched, which does
// not change meanwhile. ok is false when there is no such layer.
func (r *Replica) withObject(id LayerID, index uint64, f func(l *layer, o *object) error) (ok bool, err error) {
	r.mu.RLock()
	l := r.layers[id]
	var img *Image
	if l != nil {
		img = r.images[l.owner]
	}
	r.mu.RUnlock()
	if l == nil {
		return false, nil
	}
	if img != nil { // the layer may be its active one
		s := img.stripe(index)
		s.mu.RLock()
		defer s.mu.RUnlock()
	}
	r.chain.RLock()
	defer r.chain.RUnlock()
	r.mu.RLock()
	there := r.layers[id] == l
	r.mu.RUnlock()
	if !there {
		return false, nil
	}
	return true, f(l, l.objects.get(index))
}

// LayerObjects yields the indices of all objects that a layer itself has, ascending, and
// how many bytes of data each holds. An
// object that comes to be meanwhile may be missed. A layer that is not there is
// [ErrNotFound]; one that goes meanwhile ends the sequence.
func (r *Replica) LayerObjects(id LayerID) (iter.Seq2[uint64, uint64], error) {
	r.mu.RLock()
	l := r.layers[id]
	r.mu.RUnlock()
	if l == nil {
		return nil, fault.New(fault.NotFound, "layer %d: %w", id, ErrNotFound)
	}
	return func(yield func(uint64, uint64) bool) {
		for index, more := uint64(0), true; more; {
			found, next, bytes := false, index, uint64(0)
			// Nothing in here fails; a layer that is gone leaves more false.
			more, _ = r.withObject(id, index, func(l *layer, o *object) error {
				found, next = o != nil && o.version != 0, l.objects.after(index)
				if found && o.blocks != nil {
					bytes = uint64(o.blocks.count) * BlockSize
				}
				return nil
			})
			if found && !yield(index, bytes) || next == index {
				return
			}
			index = next
		}
	}, nil
}

// CopyObject returns one object of a layer as it is: what was applied to it, never what is
// only staged, and its version, both of one moment. Data uses the room of buf if it
// suffices. A layer that is not there is [ErrNotFound]; an object that the layer does not
// have has version 0 and no data.
//
// After a crash files may be ahead of versions, so a replica is no source until it has
// replayed what it had applied before.
func (r *Replica) CopyObject(id LayerID, index uint64, buf []byte) (ObjectCopy, error) {
	out := ObjectCopy{AtLeast: r.Applied().Position, Data: buf[:0]}
	ok, err := r.withObject(id, index, func(l *layer, o *object) error {
		r.mu.RLock()
		out.AtMost = r.begun
		r.mu.RUnlock()
		if o == nil {
			return nil
		}
		return l.copyTo(&out, o, index)
	})
	switch {
	case err != nil:
		return ObjectCopy{}, fmt.Errorf("copy %s: %w", layerObjectName(id, index), err)
	case !ok:
		return ObjectCopy{}, fault.New(fault.NotFound, "copy %s: %w", layerObjectName(id, index), ErrNotFound)
	}
	return out, nil
}

// copyTo copies version, bitmaps and data of an object.
func (l *layer) copyTo(out *ObjectCopy, o *object, index uint64) error {
	out.Version = o.version
	if o.hidden != nil {
		out.Hidden = slices.Clone(o.hidden.words)
	}
	if o.blocks == nil {
		return nil
	}
	out.Blocks = slices.Clone(o.blocks.words)
	out.Data = slices.Grow(out.Data, o.blocks.count*BlockSize)
	return o.blocks.runs(l.objectSize/BlockSize, func(from, to uint64) error {
		have := len(out.Data)
		out.Data = out.Data[:have+int(to-from)*BlockSize]
		return l.readFile(index*l.objectSize+from*BlockSize, out.Data[have:])
	})
}

// layerObjectName names an object in an error.
func layerObjectName(id LayerID, index uint64) string {
	return fmt.Sprintf("object %d of layer %d", index, id)
}
