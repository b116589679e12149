package replica

import (
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"tidemark/events"
)

// stripeCount is how many locks the objects of an image share.
const stripeCount = 64

// stripe protects the objects whose index has its number modulo stripeCount: their
// entries in the table, their blocks in the file and what is staged over them.
type stripe struct {
	mu     sync.RWMutex
	staged map[uint64]segments // by object index; nil until needed
}

// Image is a block device of a directory. Its methods may be called concurrently, and
// fail with [ErrNotFound] once the image was removed.
type Image struct {
	replica    *Replica
	id         events.ImageID
	name       string
	objectSize uint64

	stripes [stripeCount]stripe

	// Changed by the applier with all stripes held, in this order.
	size    atomic.Uint64
	version atomic.Uint64
	removed atomic.Bool
	active  *layer // read with a stripe held

	recorded bool // the metadata hold a record of the image; the applier's
}

// ImageInfo describes an image.
type ImageInfo struct {
	ID         events.ImageID  `json:"id"`
	Name       string          `json:"name"`
	Size       uint64          `json:"size"`        // bytes
	ObjectSize uint64          `json:"object_size"` // bytes
	Version    events.Position `json:"version"`     // of the image itself: its last operation
	Objects    uint64          `json:"objects"`     // of its own layer, how many hold data
	UsedBytes  uint64          `json:"used_bytes"`  // of its own layer, in whole blocks

	Names         []string          `json:"names"` // all, sorted; Name is the oldest
	Features      []string          `json:"features"`
	Snapshots     int               `json:"snapshots"`      // how many it has
	SnapshotLimit uint32            `json:"snapshot_limit"` // how many it may have
	Metadata      int               `json:"metadata"`       // how many keys it has
	Parent        events.ImageID    `json:"parent"`         // of a clone; 0: none
	Snapshot      events.SnapshotID `json:"snapshot"`       // of the parent that it stands on
	Layer         LayerID           `json:"layer"`          // that writes go to
}

// Names returns the image's names, sorted.
func (img *Image) Names() []string { return []string{img.name} }

// Metadata returns a copy of what the image's users keep with it.
func (img *Image) Metadata() map[string]string { return nil }

// Features returns the features that are turned on, sorted.
func (img *Image) Features() []string { return nil }

// ReadOnly reports whether the image has [events.FeatureReadOnly]. Apply does not look at
// it: the owner refuses writes.
func (img *Image) ReadOnly() bool { return false }

// SnapshotLimit returns how many snapshots the image may have.
func (img *Image) SnapshotLimit() uint32 { return events.SnapshotsMax }

// Parent returns the snapshot that a clone stands on; ok is false for an image that is no
// clone, or was flattened.
func (img *Image) Parent() (image events.ImageID, snapshot events.SnapshotID, ok bool) {
	return 0, 0, false
}

// ID returns the image's number, which no other image of the directory ever has.
func (img *Image) ID() events.ImageID { return img.id }

// Name returns the image's name.
func (img *Image) Name() string { return img.name }

// Size returns the image's size in bytes.
func (img *Image) Size() uint64 { return img.size.Load() }

// ObjectSize returns the size of the image's objects in bytes.
func (img *Image) ObjectSize() uint64 { return img.objectSize }

// Version returns the position of the entry that created or last resized the image.
func (img *Image) Version() events.Position { return events.Position(img.version.Load()) }

// Info describes the image as it is between two messages.
func (img *Image) Info() ImageInfo {
	img.replica.applying.Lock()
	defer img.replica.applying.Unlock()
	return img.info()
}

func (img *Image) info() ImageInfo {
	return ImageInfo{
		ID: img.id, Name: img.name, Size: img.Size(), ObjectSize: img.objectSize, Version: img.Version(),
		Objects: img.active.filled, UsedBytes: img.active.used * BlockSize,
		Names: img.Names(), SnapshotLimit: img.SnapshotLimit(), Layer: LayerID(img.active.number),
	}
}

func (img *Image) stripe(index uint64) *stripe { return &img.stripes[index%stripeCount] }

func (img *Image) lockAll() {
	for i := range img.stripes {
		img.stripes[i].mu.Lock()
	}
}

func (img *Image) unlockAll() {
	for i := range img.stripes {
		img.stripes[i].mu.Unlock()
	}
}

// checkRange reports whether a range lies within the image.
func (img *Image) checkRange(offset, length uint64) error {
	if img.removed.Load() {
		return fmt.Errorf("image %q was removed: %w", img.name, ErrNotFound)
	}
	if size := img.Size(); offset > size || length > size-offset {
		return fmt.Errorf("%d bytes at %d of image %q, which has %d: %w", length, offset, img.name, size, ErrRange)
	}
	return nil
}

// ReadAt fills p with what the image holds at off, staged changes included. Each block
// is read as of one moment; blocks of one call may be of different moments. Unlike
// other readers it fails with [ErrRange], having read nothing, when the range ends
// beyond the image.
func (img *Image) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: %w", off, ErrRange)
	}
	at := uint64(off)
	if err := img.checkRange(at, uint64(len(p))); err != nil {
		return 0, err
	}
	done := 0
	for done < len(p) {
		index, from := at/img.objectSize, at%img.objectSize
		n := int(min(uint64(len(p)-done), img.objectSize-from))
		if err := img.readObject(index, from, p[done:done+n]); err != nil {
			return done, err
		}
		done += n
		at += uint64(n)
	}
	return done, nil
}

// readObject reads a part of one object, what is staged over what is applied.
func (img *Image) readObject(index, from uint64, p []byte) error {
	s := img.stripe(index)
	s.mu.RLock()
	defer s.mu.RUnlock()
	base := index * img.objectSize
	if err := img.checkRange(base+from, uint64(len(p))); err != nil {
		return err // it shrank meanwhile
	}
	l := img.active
	o := l.objects.get(index)
	segs := s.staged[index]
	to := from + uint64(len(p))
	for i := segs.search(uint32(from)); i < len(segs) && uint64(segs[i].from) < to; i++ {
		g := &segs[i]
		if start := uint64(g.from); start > from {
			if err := l.read(o, base, from, p[:start-from]); err != nil {
				return err
			}
			p = p[start-from:]
			from = start
		}
		n := min(uint64(g.to), to) - from
		if g.data == nil {
			clear(p[:n])
		} else {
			copy(p[:n], g.data[from-uint64(g.from):])
		}
		p = p[n:]
		from += n
	}
	if from == to {
		return nil
	}
	return l.read(o, base, from, p)
}

// ObjectVersion returns the position of the last applied entry that changed an object,
// 0 when none did or the image has no such object. Staged entries do not count.
func (img *Image) ObjectVersion(index uint64) events.Position {
	s := img.stripe(index)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return img.active.objects.version(index)
}

// Objects yields the indices of all objects that have a version, ascending: those
// whose content or version a first sync must copy. An object that gets its first
// version meanwhile may be missed.
func (img *Image) Objects() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for index := uint64(0); ; index++ {
			found := false
			index, found = img.nextObject(index)
			if !found || !yield(index) {
				return
			}
		}
	}
}

// nextObject returns the first object from index on that has a version.
func (img *Image) nextObject(index uint64) (uint64, bool) {
	for {
		s := img.stripe(index)
		s.mu.RLock()
		t := img.active.objects
		switch {
		case index >= t.count:
			s.mu.RUnlock()
			return 0, false
		case t.version(index) != 0:
			s.mu.RUnlock()
			return index, true
		case t.pages[index/objectsPerPage].Load() == nil:
			index = (index/objectsPerPage + 1) * objectsPerPage
		default:
			index++
		}
		s.mu.RUnlock()
	}
}
