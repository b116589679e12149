package replica

import (
	"encoding/binary"

	"tidemark/events"
	"tidemark/internal/fault"
)

// Imprint is what tells whether two copies have the same of an object in a layer.
type Imprint struct {
	// Version, and therefore the entries that the object includes. Tags are unique, so
	// there are no two contents of one version.
	Version events.Position
	// Bitmaps is a digest of which blocks the layer itself has and hides: compaction moves
	// blocks between layers and changes no version.
	Bitmaps Digest
}

// ImprintObject describes one object of a layer, as [Replica.CopyObject] copies it. A layer
// that is not there is [ErrNotFound]; an object that the layer does not have has the version
// zero.
func (r *Replica) ImprintObject(id LayerID, index uint64) (Imprint, error) {
	var out Imprint
	ok, err := r.withObject(id, index, func(l *layer, o *object) error {
		if o != nil {
			out = Imprint{o.version, l.objects.digest(o)}
		}
		return nil
	})
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "look at %s: %w", layerObjectName(id, index), ErrNotFound)
	}
	return out, err
}

// digest returns the digest of an object's bitmaps.
func (t *table) digest(o *object) Digest {
	size := 8 * len(t.full.words)
	b := make([]byte, 2*size)
	for half, bits := range []*bitmap{o.blocks, o.hidden} {
		if bits == nil {
			continue
		}
		for i, w := range bits.words {
			binary.LittleEndian.PutUint64(b[half*size+8*i:], w)
		}
	}
	return digestOf(b)
}

// ShownObject returns the blocks that a layer shows of an object, its own and those from
// below, in the form of [ObjectCopy] and without versions. Where there is no such layer of
// that object size, the image's active one is looked at instead, and if there is none nothing
// is shown. Data uses the room of buf if it suffices. What is shown is good for comparing by
// digests, whatever state the replica is in.
func (r *Replica) ShownObject(like LayerRecord, index uint64, buf []byte) (ObjectCopy, error) {
	out := ObjectCopy{Data: buf[:0]}
	id, ok := r.layerLike(like)
	if !ok {
		return out, nil
	}
	_, err := r.withObject(id, index, func(l *layer, _ *object) error {
		if index >= l.objects.count {
			return nil
		}
		out.Blocks = make([]uint64, len(l.objects.full.words))
		return l.visible(index, out.Blocks).runs(l.objectSize/BlockSize, func(from, to uint64) error {
			have := len(out.Data)
			out.Data = append(out.Data, make([]byte, (to-from)*BlockSize)...)
			return l.read(index, from*BlockSize, out.Data[have:])
		})
	})
	return out, err
}

// layerLike returns the layer that most likely shows what a layer of another replica does.
func (r *Replica) layerLike(like LayerRecord) (LayerID, bool) {
	r.applying.Lock()
	defer r.applying.Unlock()
	if l := r.layers[like.ID]; l != nil && l.owner == like.Owner && l.objectSize == like.ObjectSize {
		return l.id, true
	}
	if img := r.images[like.Owner]; img != nil && img.objectSize == like.ObjectSize {
		return img.active.id, true
	}
	return 0, false
}
