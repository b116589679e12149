package replica

import (
	"errors"
	"fmt"
	"io/fs"

	"tidemark/events"
	"tidemark/internal/fault"
)

// View names content that can be read: that of an image, or of one of its snapshots.
type View struct {
	Image    events.ImageID    `json:"image"`
	Snapshot events.SnapshotID `json:"snapshot"` // 0: what the image holds now
}

// String names the view in an error.
func (v View) String() string {
	if v.Snapshot == 0 {
		return fmt.Sprintf("image %d", v.Image)
	}
	return fmt.Sprintf("snapshot %d of image %d", v.Snapshot, v.Image)
}

// ObjectDigest is an object as a view shows it at one moment.
type ObjectDigest struct {
	Version events.Position `json:"version"`
	// AtLeast and AtMost bound the entries in the content: all up to AtLeast, none
	// behind AtMost.
	AtLeast events.Position `json:"at_least"`
	AtMost  events.Position `json:"at_most"`
	Content Digest          `json:"content"` // [ContentDigest] of Blocks
	Blocks  []Digest        `json:"blocks,omitempty"`
	// Failure is why some blocks could not be read, nil if all could. The digest of those
	// is that of no content.
	Failure error `json:"-"`
}

// Digest returns the digests of an object as a view shows it, and its version, both of one
// moment: what was applied, never what is only staged. An object behind the view's end has
// version 0 and reads as zeroes. A view that is not there is [ErrNotFound]. What was said of
// crashes at [Replica.CopyObject] holds here too.
func (r *Replica) Digest(v View, index uint64) (ObjectDigest, error) {
	out := ObjectDigest{AtLeast: r.Applied().Position}
	err := r.withView(v, index, func(l *layer) error {
		r.mu.RLock()
		out.AtMost = r.begun
		r.mu.RUnlock()
		return l.digest(index, &out)
	})
	if err != nil {
		return ObjectDigest{}, fmt.Errorf("digest of object %d of %v: %w", index, v, err)
	}
	return out, nil
}

// withView calls f with the uppermost layer of a view, of which an object does not change
// meanwhile.
func (r *Replica) withView(v View, index uint64, f func(l *layer) error) error {
	img, snapshot, err := r.view(v)
	if err != nil {
		return err
	}
	if snapshot != nil {
		return snapshot.locked(0, 0, f)
	}
	s := img.stripe(index)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := img.checkRange(0, 0); err != nil {
		return err
	}
	r.chain.RLock()
	defer r.chain.RUnlock()
	return f(img.active)
}

// view finds what a view names; snapshot is nil for an image's own content.
func (r *Replica) view(v View) (*Image, *Snapshot, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	img := r.images[v.Image]
	if img == nil {
		return nil, nil, fault.New(fault.NotFound, "%v: %w", v, ErrNotFound)
	}
	if v.Snapshot == 0 {
		return img, nil, nil
	}
	for _, s := range img.snapshots {
		if s.id == v.Snapshot {
			return img, s, nil
		}
	}
	return nil, nil, fault.New(fault.NotFound, "%v: %w", v, ErrNotFound)
}

// digestRoom is how many bytes of content are read at a time for its digests.
const digestRoom = 256 << 10

// digest adds an object's version and digests as a layer shows them.
func (l *layer) digest(index uint64, out *ObjectDigest) error {
	blocks := l.objectSize / BlockSize
	out.Blocks = make([]Digest, blocks)
	if index >= l.objects.count {
		return nil
	}
	out.Version = l.version(index)
	var words [ObjectSizeMax / BlockSize / 64]uint64
	var room []byte
	err := l.visible(index, words[:wordsFor(blocks)]).runs(blocks, func(from, to uint64) error {
		if room == nil {
			room = make([]byte, min(digestRoom, l.objectSize))
		}
		for from < to {
			piece := room[:min(uint64(len(room)), (to-from)*BlockSize)]
			if err := l.digestPiece(index, from, piece, out); err != nil {
				return err
			}
			from += uint64(len(piece)) / BlockSize
		}
		return nil
	})
	if err != nil {
		return err
	}
	out.Content = ContentDigest(out.Blocks)
	return nil
}

// digestPiece adds the digests of as many blocks as piece, which is room for their content, has.
func (l *layer) digestPiece(index, from uint64, piece []byte, out *ObjectDigest) error {
	if l.read(index, from*BlockSize, piece) == nil {
		BlockDigests(out.Blocks[from:from], piece)
		return nil
	}
	for block := range uint64(len(piece)) / BlockSize {
		one := piece[:BlockSize]
		switch err := l.read(index, (from+block)*BlockSize, one); {
		case errors.Is(err, fs.ErrClosed):
			return err
		case err != nil:
			out.Blocks[from+block], out.Failure = unreadable(), err
		default:
			out.Blocks[from+block] = digestOf(one)
		}
	}
	return nil
}

// unreadable returns the digest of a block that cannot be read.
func unreadable() (d Digest) {
	for i := range d {
		d[i] = 0xff
	}
	return d
}

// ReadBlocks returns the content of an object's blocks, of which wanted has a bit each, as a
// view shows them, and the object's version, both of one moment. Bounds and errors are those
// of [Replica.Digest]; blocks that no object of the view has are [fault.Usage].
func (r *Replica) ReadBlocks(v View, index uint64, wanted []uint64) (ObjectCopy, error) {
	out := ObjectCopy{AtLeast: r.Applied().Position, Blocks: wanted}
	err := r.withView(v, index, func(l *layer) error {
		r.mu.RLock()
		out.AtMost = r.begun
		r.mu.RUnlock()
		which := checkedBitmap(wanted, l.objects.full)
		if which == nil || index >= l.objects.count {
			return fault.New(fault.Usage, "it has no such blocks")
		}
		out.Version = l.version(index)
		out.Data = make([]byte, 0, which.count*BlockSize)
		return which.runs(l.objectSize/BlockSize, func(from, to uint64) error {
			have := len(out.Data)
			out.Data = out.Data[:have+int(to-from)*BlockSize]
			return l.read(index, from*BlockSize, out.Data[have:])
		})
	})
	if err != nil {
		return ObjectCopy{}, fmt.Errorf("read object %d of %v: %w", index, v, err)
	}
	return out, nil
}

// NextObject returns the first object of a view from an index on that has a version; ok is
// false when there is none. One that comes to be meanwhile may be missed. A view that is
// not there is [ErrNotFound].
func (r *Replica) NextObject(v View, index uint64) (next uint64, ok bool, err error) {
	img, snapshot, err := r.view(v)
	if err != nil {
		return 0, false, err
	}
	if snapshot == nil {
		next, ok = img.nextObject(index)
		return next, ok, nil
	}
	err = snapshot.locked(0, 0, func(l *layer) error {
		for next = index; next < l.objects.count && !ok; {
			switch {
			case l.version(next) != 0:
				ok = true
			case l.parent == nil && l.floor == 0:
				next = l.objects.after(next)
			default:
				next++
			}
		}
		return nil
	})
	return next, ok, err
}
