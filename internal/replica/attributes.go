package replica

import (
	"maps"
	"slices"

	"tidemark/events"
)

// attributes are what an image has besides data. The slices and the map are replaced,
// never changed, so a copy of the struct may be read without a lock.
type attributes struct {
	names     []string // oldest first; at least one unless the image was removed
	features  []string // sorted
	metadata  map[string]string
	limit     uint32      // of snapshots
	snapshots []*Snapshot // by position
	parent    *Snapshot   // that a clone stands on
}

func (img *Image) attributesNow() attributes {
	img.replica.mu.RLock()
	defer img.replica.mu.RUnlock()
	return img.attributes
}

// change changes the attributes, which the next checkpoint records.
func (img *Image) change(f func(a *attributes)) {
	img.replica.mu.Lock()
	defer img.replica.mu.Unlock()
	f(&img.attributes)
	img.stale, img.replica.altered = true, true
}

// Name returns the image's oldest name.
func (img *Image) Name() string { return img.attributesNow().names[0] }

// Names returns the image's names, sorted.
func (img *Image) Names() []string { return slices.Sorted(slices.Values(img.attributesNow().names)) }

// Metadata returns a copy of what the image's users keep with it.
func (img *Image) Metadata() map[string]string {
	if m := img.attributesNow().metadata; m != nil {
		return maps.Clone(m)
	}
	return map[string]string{}
}

// Features returns the features that are turned on, sorted.
func (img *Image) Features() []string { return slices.Clone(img.attributesNow().features) }

// ReadOnly reports whether the image has [events.FeatureReadOnly]. Apply does not look at
// it: the owner refuses writes.
func (img *Image) ReadOnly() bool {
	a := img.attributesNow()
	return a.has(events.FeatureReadOnly)
}

func (a *attributes) has(feature string) bool {
	_, found := slices.BinarySearch(a.features, feature)
	return found
}

// SnapshotLimit returns how many snapshots the image may have.
func (img *Image) SnapshotLimit() uint32 { return img.attributesNow().limit }

// Parent returns the snapshot that a clone stands on; ok is false for an image that is no
// clone, or was flattened.
func (img *Image) Parent() (image events.ImageID, snapshot events.SnapshotID, ok bool) {
	parent := img.attributesNow().parent
	if parent == nil {
		return 0, 0, false
	}
	return parent.image.id, parent.id, true
}

// Snapshots describes the image's snapshots, by position, as they are between two messages.
func (img *Image) Snapshots() []SnapshotInfo {
	r := img.replica
	r.applying.Lock()
	defer r.applying.Unlock()
	children := r.children()
	out := make([]SnapshotInfo, 0, len(img.snapshots))
	for _, s := range img.snapshots {
		out = append(out, s.info(children[s]))
	}
	return out
}

// Snapshot returns a snapshot of the image by its name.
func (img *Image) Snapshot(name string) (*Snapshot, bool) {
	img.replica.mu.RLock()
	defer img.replica.mu.RUnlock()
	return img.attributes.snapshot(name)
}

func (a *attributes) snapshot(name string) (*Snapshot, bool) {
	for _, s := range a.snapshots {
		if s.name == name {
			return s, true
		}
	}
	return nil, false
}

// children counts the clones of each snapshot. applying is held.
func (r *Replica) children() map[*Snapshot]int {
	out := make(map[*Snapshot]int)
	for _, img := range r.images {
		if img.parent != nil {
			out[img.parent]++
		}
	}
	return out
}
