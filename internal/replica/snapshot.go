package replica

import (
	"fmt"

	"tidemark/events"
)

// SnapshotInfo describes a snapshot.
type SnapshotInfo struct {
	ID        events.SnapshotID `json:"id"`
	Name      string            `json:"name"`
	Size      uint64            `json:"size"`       // bytes
	Position  events.Position   `json:"position"`   // what it holds: all up to there
	Created   events.Instant    `json:"created"`    // when its entry was published
	Protected bool              `json:"protected"`  // cannot be removed, may have clones
	Group     bool              `json:"group"`      // was taken of the whole directory
	Children  int               `json:"children"`   // clones that stand on it
	UsedBytes uint64            `json:"used_bytes"` // of its own layer, in whole blocks
}

// Snapshot is an image as it was at one position: a layer that is written to no more. Its
// methods may be called concurrently, and fail with [ErrNotFound] once it was removed.
type Snapshot struct {
	image    *Image
	id       events.SnapshotID
	size     uint64 // bytes
	position events.Position
	created  events.Instant
	group    bool
	removed  chan struct{} // closed with Replica.chain held

	layer *layer // guarded by Replica.chain; only the applier and Compact change it

	// Guarded by Replica.mu; only the applier changes them.
	name      string
	protected bool

	stale    bool // its record differs from the metadata; the applier's
	recorded bool // the metadata hold a record of it; the applier's
}

// ID returns the snapshot's number, which no other snapshot of the directory ever has.
func (s *Snapshot) ID() events.SnapshotID { return s.id }

// Name returns the snapshot's name.
func (s *Snapshot) Name() string {
	s.image.replica.mu.RLock()
	defer s.image.replica.mu.RUnlock()
	return s.name
}

// Size returns the snapshot's size in bytes.
func (s *Snapshot) Size() uint64 { return s.size }

// Info describes the snapshot as it is between two messages.
func (s *Snapshot) Info() SnapshotInfo {
	s.image.replica.applying.Lock()
	defer s.image.replica.applying.Unlock()
	return s.info(s.image.replica.children()[s])
}

func (s *Snapshot) info(children int) SnapshotInfo {
	return SnapshotInfo{
		ID: s.id, Name: s.name, Size: s.size, Position: s.position, Created: s.created,
		Protected: s.protected, Group: s.group, Children: children, UsedBytes: s.layer.used * BlockSize,
	}
}

// change changes what a snapshot is called and whether it is protected; the next
// checkpoint records it.
func (s *Snapshot) change(f func()) {
	s.image.replica.mu.Lock()
	defer s.image.replica.mu.Unlock()
	f()
	s.stale, s.image.replica.altered = true, true
}

// Removed is closed when the snapshot is gone: its export ends then.
func (s *Snapshot) Removed() <-chan struct{} { return s.removed }

// usable reports whether a range of the snapshot can be read. chain is held.
func (s *Snapshot) usable(offset, length uint64) error {
	select {
	case <-s.removed:
		return fmt.Errorf("snapshot %q was removed: %w", s.Name(), ErrNotFound)
	default:
	}
	if offset > s.size || length > s.size-offset {
		return fmt.Errorf("%d bytes at %d of snapshot %q, which has %d: %w", length, offset, s.Name(), s.size, ErrRange)
	}
	return nil
}

// ReadAt fills p with what the snapshot holds at off. Like [Image.ReadAt] it fails with
// [ErrRange], having read nothing, when the range ends beyond the snapshot.
func (s *Snapshot) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: %w", off, ErrRange)
	}
	if err := s.locked(uint64(off), uint64(len(p)), func(*layer) error { return nil }); err != nil {
		return 0, err
	}
	objectSize := s.image.objectSize
	for done := 0; done < len(p); {
		at := uint64(off) + uint64(done)
		index, from := at/objectSize, at%objectSize
		piece := p[done:][:min(uint64(len(p)-done), objectSize-from)]
		err := s.locked(at, uint64(len(piece)), func(l *layer) error { return l.read(index, from, piece) })
		if err != nil {
			return done, err
		}
		done += len(piece)
	}
	return len(p), nil
}

// locked calls f with the layers kept as they are, if a range can be read.
func (s *Snapshot) locked(offset, length uint64, f func(l *layer) error) error {
	s.image.replica.chain.RLock()
	defer s.image.replica.chain.RUnlock()
	if err := s.usable(offset, length); err != nil {
		return err
	}
	return f(s.layer)
}

// Extents says which parts of a range are allocated. Errors and bounds are those of
// [Image.Extents].
func (s *Snapshot) Extents(offset, length uint64) (out []Extent, err error) {
	err = s.locked(offset, length, func(l *layer) error {
		out = gatherExtents(offset, length, l.objectSize, func(out []Extent, index, from, to uint64) []Extent {
			var words [ObjectSizeMax / BlockSize / 64]uint64
			blocks := l.allocation(index, words[:wordsFor(l.objectSize/BlockSize)], false)
			return appendObjectExtents(out, blocks, from, to)
		})
		return nil
	})
	return out, err
}
