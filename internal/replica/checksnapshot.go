package replica

import (
	"math"

	"tidemark/events"
	"tidemark/internal/fault"
)

// checkSnapshots reports whether images could have a new snapshot.
func (r *Replica) checkSnapshots(e events.SnapshotsCreated) error {
	if err := checkSnapshotName(e.Name); err != nil {
		return err
	}
	switch {
	case len(e.Images) == 0:
		return fault.New(fault.Usage, "a snapshot of no image")
	case e.First < r.nextSnapshot:
		return fault.New(fault.Exists, "snapshot number %d was used before, the next is %d: it %w", e.First, r.nextSnapshot, ErrExists)
	case uint64(e.First)+uint64(len(e.Images)) > math.MaxUint32:
		return fault.New(fault.NoSpace, "the directory has no numbers for snapshots left")
	}
	seen := make(map[events.ImageID]bool, len(e.Images))
	for _, id := range e.Images {
		img := r.images[id]
		if img == nil {
			return fault.New(fault.NotFound, "there is no image %d: %w", id, ErrNotFound)
		}
		if seen[id] {
			return fault.New(fault.Usage, "image %d is named twice", id)
		}
		seen[id] = true
		if _, ok := img.attributes.snapshot(e.Name); ok {
			return fault.New(fault.Exists, "snapshot %q of image %q %w", e.Name, img.names[0], ErrExists)
		}
		if uint64(len(img.snapshots)) >= uint64(img.limit) {
			return fault.New(fault.NoSpace, "image %q has %d snapshots, its limit", img.names[0], len(img.snapshots))
		}
	}
	return nil
}

func checkSnapshotName(name string) error {
	if err := events.CheckName(name); err != nil {
		return fault.New(fault.Usage, "snapshot: %w", err)
	}
	return nil
}

// checkSnapshot reports whether a fact about a snapshot could be made true.
func (r *Replica) checkSnapshot(img *Image, id events.SnapshotID, fact events.Event) error {
	s := r.snapshots[id]
	if s == nil || s.image != img {
		return fault.New(fault.NotFound, "there is no snapshot %d of image %q: %w", id, img.names[0], ErrNotFound)
	}
	switch e := fact.(type) {
	case events.SnapshotRemoved:
		if s.protected {
			return fault.New(fault.Busy, "snapshot %q is protected", s.name)
		}
	case events.SnapshotRenamed:
		if err := checkSnapshotName(e.Name); err != nil {
			return err
		}
		if _, ok := img.attributes.snapshot(e.Name); ok {
			return fault.New(fault.Exists, "snapshot %q of image %q %w", e.Name, img.names[0], ErrExists)
		}
	case events.SnapshotProtected:
		if s.protected {
			return fault.New(fault.Busy, "snapshot %q is protected already", s.name)
		}
	case events.SnapshotUnprotected:
		if !s.protected {
			return fault.New(fault.Usage, "snapshot %q is not protected", s.name)
		}
		if n := r.children()[s]; n > 0 {
			return fault.New(fault.Busy, "snapshot %q has %d clones", s.name, n)
		}
	case events.SnapshotRolledBack:
		if img.has(events.FeatureReadOnly) {
			return img.readOnly()
		}
	}
	return nil
}
