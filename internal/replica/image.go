package replica

import (
	"fmt"
	"iter"
	"slices"
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
	objectSize uint64

	stripes [stripeCount]stripe

	// Changed by the applier with all stripes held, in this order.
	size    atomic.Uint64
	version atomic.Uint64
	removed atomic.Bool
	active  *layer // read with a stripe held

	attributes // guarded by Replica.mu; only the applier changes them

	stale    bool // its record differs from the metadata; the applier's
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

// ID returns the image's number, which no other image of the directory ever has.
func (img *Image) ID() events.ImageID { return img.id }

// Size returns the image's size in bytes.
func (img *Image) Size() uint64 { return img.size.Load() }

// ObjectSize returns the size of the image's objects in bytes.
func (img *Image) ObjectSize() uint64 { return img.objectSize }

// Version returns the position of the last entry that was an operation on the image.
func (img *Image) Version() events.Position { return events.Position(img.version.Load()) }

// Info describes the image as it is between two messages.
func (img *Image) Info() ImageInfo {
	img.replica.applying.Lock()
	defer img.replica.applying.Unlock()
	return img.info()
}

func (img *Image) info() ImageInfo {
	a, l := img.attributesNow(), img.active
	info := ImageInfo{
		ID: img.id, Name: a.names[0], Size: img.Size(), ObjectSize: img.objectSize, Version: img.Version(),
		Objects: l.filled, UsedBytes: l.used * BlockSize,
		Names: slices.Sorted(slices.Values(a.names)), Features: slices.Clone(a.features),
		Snapshots: len(a.snapshots), SnapshotLimit: a.limit, Metadata: len(a.metadata), Layer: l.id,
	}
	if a.parent != nil {
		info.Parent, info.Snapshot = a.parent.image.id, a.parent.id
	}
	return info
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
		return fmt.Errorf("image %q was removed: %w", img.Name(), ErrNotFound)
	}
	if size := img.Size(); offset > size || length > size-offset {
		return fmt.Errorf("%d bytes at %d of image %q, which has %d: %w", length, offset, img.Name(), size, ErrRange)
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
	segs := s.staged[index]
	to := from + uint64(len(p))
	for i := segs.search(uint32(from)); i < len(segs) && uint64(segs[i].from) < to; i++ {
		g := &segs[i]
		if start := uint64(g.from); start > from {
			if err := img.readApplied(index, from, p[:start-from]); err != nil {
				return err
			}
			p = p[start-from:]
			from = start
		}
		n := min(uint64(g.to), to) - from
		g.read(p[:n], uint32(from))
		p = p[n:]
		from += n
	}
	if from == to {
		return nil
	}
	return img.readApplied(index, from, p)
}

// readApplied reads a part of one object, leaving out what is staged. The stripe is held.
func (img *Image) readApplied(index, from uint64, p []byte) error {
	if img.active.parent != nil {
		img.replica.chain.RLock()
		defer img.replica.chain.RUnlock()
	}
	return img.active.read(index, from, p)
}

// ObjectVersion returns the position of the last applied entry that changed an object,
// 0 when none did or the image has no such object. Staged entries do not count.
func (img *Image) ObjectVersion(index uint64) events.Position {
	s := img.stripe(index)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return img.versionOf(index)
}

// versionOf is ObjectVersion for who holds the object's stripe.
func (img *Image) versionOf(index uint64) events.Position {
	l := img.active
	if index >= l.objects.count {
		return 0
	}
	if v := l.objects.version(index); v != 0 {
		return v
	}
	if l.parent != nil {
		img.replica.chain.RLock()
		defer img.replica.chain.RUnlock()
	}
	return l.version(index)
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
		l, t := img.active, img.active.objects
		switch {
		case index >= t.count:
			s.mu.RUnlock()
			return 0, false
		case img.versionOf(index) != 0:
			s.mu.RUnlock()
			return index, true
		case l.parent == nil && l.floor == 0 && t.page(index) == nil:
			index = (index/objectsPerPage + 1) * objectsPerPage
		default:
			index++
		}
		s.mu.RUnlock()
	}
}
