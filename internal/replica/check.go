package replica

import (
	"math"
	"slices"

	"tidemark/events"
	"tidemark/internal/fault"
)

// Bounds of what an image has.
const (
	// NamesMax is the most names that an image can have.
	NamesMax = 64
	// MetadataMax is the most keys that an image's metadata can have.
	MetadataMax = 256
)

// Check reports whether what an operation intends could be made true now, as of the
// messages applied, and returns the versions that the entry names which makes it true. It
// looks at metadata only and changes nothing. The owner decides by it, recovery does, and
// so does Apply. An error has one of the codes exists, not_found, busy, usage, read_only
// and no_space.
//
// A number that the intent gives out is demanded to be new, but need not be the next one.
func (r *Replica) Check(intent events.Event) (before []events.Position, err error) {
	r.applying.Lock()
	defer r.applying.Unlock()
	if err := r.check(intent); err != nil {
		return nil, err
	}
	return r.versions(intent), nil
}

// versions returns the versions that the entry names which makes a fact true: zero for
// what is not there.
func (r *Replica) versions(fact events.Event) []events.Position {
	switch e := fact.(type) {
	case events.ImageCreated:
		return []events.Position{r.names[e.Name].versionOrZero()}
	case events.ImageCloned:
		return []events.Position{r.names[e.Name].versionOrZero()}
	case events.SnapshotsCreated:
		out := make([]events.Position, 0, len(e.Images))
		for _, id := range e.Images {
			out = append(out, r.images[id].versionOrZero())
		}
		return out
	}
	id, _ := imageOfFact(fact)
	return []events.Position{r.images[id].versionOrZero()}
}

func (img *Image) versionOrZero() events.Position {
	if img == nil {
		return 0
	}
	return img.Version()
}

// imageOfFact returns the image that a fact is about, of those about one that is there.
func imageOfFact(fact events.Event) (image events.ImageID, ok bool) {
	switch e := fact.(type) {
	case events.ImageResized:
		return e.Image, true
	case events.ImageRemoved:
		return e.Image, true
	case events.ImageRenamed:
		return e.Image, true
	case events.ImageLinked:
		return e.Image, true
	case events.ImageUnlinked:
		return e.Image, true
	case events.ImageFlattened:
		return e.Image, true
	case events.FeatureChanged:
		return e.Image, true
	case events.MetadataSet:
		return e.Image, true
	case events.MetadataRemoved:
		return e.Image, true
	case events.SnapshotLimitChanged:
		return e.Image, true
	}
	image, _, ok = snapshotOfFact(fact)
	return image, ok
}

// snapshotOfFact returns the snapshot that a fact is about, of those about one that is
// there, and its image.
func snapshotOfFact(fact events.Event) (image events.ImageID, snapshot events.SnapshotID, ok bool) {
	switch e := fact.(type) {
	case events.SnapshotRemoved:
		return e.Image, e.Snapshot, true
	case events.SnapshotRenamed:
		return e.Image, e.Snapshot, true
	case events.SnapshotProtected:
		return e.Image, e.Snapshot, true
	case events.SnapshotUnprotected:
		return e.Image, e.Snapshot, true
	case events.SnapshotRolledBack:
		return e.Image, e.Snapshot, true
	}
	return 0, 0, false
}

// check is Check without the versions. applying is held.
func (r *Replica) check(fact events.Event) error {
	switch e := fact.(type) {
	case events.ImageCreated:
		if err := CheckImage(e.Size, e.ObjectSize); err != nil {
			return err
		}
		return r.checkNew(e.Image, e.Name)
	case events.ImageCloned:
		return r.checkClone(e)
	case events.SnapshotsCreated:
		return r.checkSnapshots(e)
	}
	id, ok := imageOfFact(fact)
	if !ok {
		return fault.New(fault.Usage, "%T is no operation", fact)
	}
	img := r.images[id]
	if img == nil {
		return fault.New(fault.NotFound, "there is no image %d (%T): %w", id, fact, ErrNotFound)
	}
	if _, snapshot, ok := snapshotOfFact(fact); ok {
		return r.checkSnapshot(img, snapshot, fact)
	}
	return img.check(fact)
}

// checkNew reports whether there could be a new image.
func (r *Replica) checkNew(id events.ImageID, name string) error {
	switch {
	case id == math.MaxUint32: // there has to be a next one
		return fault.New(fault.NoSpace, "the directory has no numbers for images left")
	case id < r.nextImage:
		return fault.New(fault.Exists, "image number %d was used before, the next is %d: it %w", id, r.nextImage, ErrExists)
	}
	return r.checkName(name)
}

// checkName reports whether a name is free.
func (r *Replica) checkName(name string) error {
	if err := events.CheckName(name); err != nil {
		return fault.New(fault.Usage, "%w", err)
	}
	if r.names[name] != nil {
		return fault.New(fault.Exists, "image %q %w", name, ErrExists)
	}
	return nil
}

func (r *Replica) checkClone(e events.ImageCloned) error {
	s := r.snapshots[e.Snapshot]
	if s == nil || s.image.id != e.Parent {
		return fault.New(fault.NotFound, "there is no snapshot %d of image %d: %w", e.Snapshot, e.Parent, ErrNotFound)
	}
	if !s.protected {
		return fault.New(fault.Busy, "snapshot %q is not protected: a clone needs that", s.name)
	}
	return r.checkNew(e.Image, e.Name)
}

// check reports whether a fact about an image could be made true.
func (img *Image) check(fact events.Event) error {
	r, a := img.replica, &img.attributes
	switch e := fact.(type) {
	case events.ImageResized:
		if a.has(events.FeatureReadOnly) {
			return img.readOnly()
		}
		return CheckImage(e.Size, img.objectSize)
	case events.ImageRemoved:
		if n := len(a.snapshots); n > 0 {
			return fault.New(fault.Busy, "image %q has %d snapshots", a.names[0], n)
		}
	case events.ImageRenamed:
		if err := img.checkOwn(e.From); err != nil {
			return err
		}
		return r.checkName(e.To)
	case events.ImageLinked:
		if len(a.names) >= NamesMax {
			return fault.New(fault.NoSpace, "image %q has %d names, the most there can be", a.names[0], len(a.names))
		}
		return r.checkName(e.Name)
	case events.ImageUnlinked:
		if err := img.checkOwn(e.Name); err != nil {
			return err
		}
		if len(a.names) == 1 {
			return fault.New(fault.Busy, "%q is the image's last name: remove the image instead", e.Name)
		}
	case events.ImageFlattened:
		if a.parent == nil {
			return fault.New(fault.Usage, "image %q has no parent", a.names[0])
		}
	case events.FeatureChanged:
		if e.Feature != events.FeatureReadOnly {
			return fault.New(fault.Usage, "there is no feature %.40q", e.Feature)
		}
	case events.MetadataSet:
		return a.checkMetadata(e.Key, e.Value)
	case events.MetadataRemoved:
		if _, ok := a.metadata[e.Key]; !ok {
			return fault.New(fault.NotFound, "image %q has no metadata %.40q: %w", a.names[0], e.Key, ErrNotFound)
		}
	case events.SnapshotLimitChanged:
		if e.Limit > events.SnapshotsMax || int(e.Limit) < len(a.snapshots) {
			return fault.New(fault.Usage, "a limit of %d snapshots: image %q has %d, and the most there can be is %d",
				e.Limit, a.names[0], len(a.snapshots), events.SnapshotsMax)
		}
	}
	return nil
}

func (img *Image) readOnly() error {
	return fault.New(fault.ReadOnly, "image %q is read-only", img.names[0])
}

// checkOwn reports whether a name is one of the image's.
func (img *Image) checkOwn(name string) error {
	if !slices.Contains(img.names, name) {
		return fault.New(fault.NotFound, "image %q has no name %.40q: %w", img.names[0], name, ErrNotFound)
	}
	return nil
}

func (a *attributes) checkMetadata(key, value string) error {
	if key == "" || len(key) > events.MetadataKeyMax || len(value) > events.MetadataValueMax {
		return fault.New(fault.Usage, "metadata %.40q with %d bytes: a key has 1 to %d bytes, a value at most %d",
			key, len(value), events.MetadataKeyMax, events.MetadataValueMax)
	}
	if _, ok := a.metadata[key]; !ok && len(a.metadata) >= MetadataMax {
		return fault.New(fault.NoSpace, "the image's metadata has %d keys, the most there can be", len(a.metadata))
	}
	return nil
}
