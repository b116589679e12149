package replica

import (
	"fmt"
	"iter"

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
// which replay comes to: its objects are left out. Where a layer's parent at the source is
// not the one here, the source has merged layers since the sync began (it was started anew
// meanwhile: [Replica.HoldCompaction] keeps it from that while it serves): then all objects
// of that layer are to be copied, whatever [Replica.Synced] says.
func (r *Replica) Layers() []LayerRecord {
	r.applying.Lock()
	defer r.applying.Unlock()
	var out []LayerRecord
	for _, img := range r.images {
		out = append(out, LayerRecord{ID: LayerID(img.active.number), ObjectSize: img.objectSize, Size: img.Size()})
	}
	return out
}

// LayerObjects yields the indices of all objects that a layer itself has, ascending. An
// object that comes to be meanwhile may be missed. A layer that is not there is [ErrNotFound].
func (r *Replica) LayerObjects(id LayerID) (iter.Seq[uint64], error) {
	img := r.imageOf(id)
	if img == nil {
		return nil, fault.New(fault.NotFound, "layer %d: %w", id, ErrNotFound)
	}
	return img.Objects(), nil
}

// CopyObject returns one object of a layer as it is: what was applied to it, never what is
// only staged, and its version, both of one moment. Data uses the room of buf if it
// suffices. A layer that is not there is [ErrNotFound]; an object that the layer does not
// have has version 0 and no data.
//
// After a crash files may be ahead of versions, so a replica is no source until it has
// replayed what it had applied before.
func (r *Replica) CopyObject(id LayerID, index uint64, buf []byte) (ObjectCopy, error) {
	img := r.imageOf(id)
	if img == nil {
		return ObjectCopy{}, fault.New(fault.NotFound, "copy %s: %w", layerObjectName(id, index), ErrNotFound)
	}
	return img.CopyObject(index, buf)
}

func (r *Replica) imageOf(id LayerID) *Image {
	r.applying.Lock()
	defer r.applying.Unlock()
	for _, img := range r.images {
		if LayerID(img.active.number) == id {
			return img
		}
	}
	return nil
}

// layerObjectName names an object in an error.
func layerObjectName(id LayerID, index uint64) string {
	return fmt.Sprintf("object %d of layer %d", index, id)
}
