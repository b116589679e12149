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

// Snapshot is an image as it was at one position. Its methods may be called
// concurrently, and fail with [ErrNotFound] once it was removed.
type Snapshot struct {
	id      events.SnapshotID
	removed chan struct{}
}

// Snapshots describes the image's snapshots, by position, as they are between two messages.
func (img *Image) Snapshots() []SnapshotInfo { return nil }

// Snapshot returns a snapshot of the image by its name.
func (img *Image) Snapshot(name string) (*Snapshot, bool) { return nil, false }

// ID returns the snapshot's number, which no other snapshot of the directory ever has.
func (s *Snapshot) ID() events.SnapshotID { return s.id }

// Name returns the snapshot's name.
func (s *Snapshot) Name() string { return "" }

// Size returns the snapshot's size in bytes.
func (s *Snapshot) Size() uint64 { return 0 }

// Info describes the snapshot as it is between two messages.
func (s *Snapshot) Info() SnapshotInfo { return SnapshotInfo{} }

// Removed is closed when the snapshot is gone: its export ends then.
func (s *Snapshot) Removed() <-chan struct{} { return s.removed }

// ReadAt fills p with what the snapshot holds at off. Errors are those of [Image.ReadAt].
func (s *Snapshot) ReadAt(p []byte, off int64) (int, error) {
	return 0, fmt.Errorf("read snapshot %d: %w", s.id, ErrNotFound)
}

// Extents says which parts of a range are allocated, like [Image.Extents].
func (s *Snapshot) Extents(offset, length uint64) ([]Extent, error) {
	return nil, fmt.Errorf("read snapshot %d: %w", s.id, ErrNotFound)
}
