package replica

import (
	"cmp"
	"slices"

	"tidemark/events"
)

// records are images, snapshots and layers as the metadata or a source of a first sync
// describe them.
type records struct {
	images    []ImageRecord
	snapshots []SnapshotRecord
	layers    []LayerRecord
	next      struct {
		image    events.ImageID
		snapshot events.SnapshotID
		layer    LayerID
	}
}

// check refuses records that contradict themselves or each other.
func (rs *records) check() error {
	layers, err := rs.checkLayers()
	if err != nil {
		return err
	}
	images, err := rs.checkImages(layers)
	if err != nil {
		return err
	}
	if err := rs.checkSnapshots(images, layers); err != nil {
		return err
	}
	return rs.checkParents()
}

// checkLayers demands that each layer stands on one that was made before it: so there is
// no circle.
func (rs *records) checkLayers() (map[LayerID]*LayerRecord, error) {
	layers := make(map[LayerID]*LayerRecord, len(rs.layers))
	for i := range rs.layers {
		l := &rs.layers[i]
		if l.ID == 0 || l.ID >= rs.next.layer || layers[l.ID] != nil {
			return nil, corrupt("layer %d contradicts others", l.ID)
		}
		if err := CheckImage(l.Size, l.ObjectSize); err != nil {
			return nil, corrupt("layer %d: %w", l.ID, err)
		}
		if l.Overlap%BlockSize != 0 || l.Overlap > blockEnd(l.Size) || l.FloorEnd > blockEnd(l.Size) {
			return nil, corrupt("layer %d of %d bytes shows %d of its parent", l.ID, l.Size, l.Overlap)
		}
		layers[l.ID] = l
	}
	for _, l := range layers {
		parent := layers[l.Parent]
		switch {
		case l.Parent == 0 && l.Overlap == 0:
		case l.Parent == 0, parent == nil, parent.ID >= l.ID, parent.ObjectSize != l.ObjectSize:
			return nil, corrupt("layer %d cannot stand on layer %d", l.ID, l.Parent)
		}
	}
	return layers, nil
}

func (rs *records) checkImages(layers map[LayerID]*LayerRecord) (map[events.ImageID]*ImageRecord, error) {
	images, names := make(map[events.ImageID]*ImageRecord, len(rs.images)), make(map[string]bool)
	active := make(map[LayerID]bool, len(rs.images))
	for _, l := range rs.layers {
		active[l.Parent] = true // no image's own: something stands on it
	}
	for i := range rs.images {
		img := &rs.images[i]
		l := layers[img.Layer]
		if img.ID == 0 || img.ID >= rs.next.image || images[img.ID] != nil || l == nil || active[img.Layer] {
			return nil, corrupt("image %d contradicts others", img.ID)
		}
		if l.Size != img.Size || l.ObjectSize != img.ObjectSize || l.Owner != img.ID { // the owner's locks protect it
			return nil, corrupt("image %d of %d bytes has a layer of %d, made for image %d", img.ID, img.Size, l.Size, l.Owner)
		}
		if err := img.check(names); err != nil {
			return nil, err
		}
		images[img.ID], active[img.Layer] = img, true
	}
	return images, nil
}

// check refuses attributes that no entry can have given an image; names are those taken.
func (img *ImageRecord) check(names map[string]bool) error {
	if len(img.Links) >= NamesMax || len(img.Metadata) > MetadataMax || img.SnapshotLimit > events.SnapshotsMax {
		return corrupt("image %d has too much of something", img.ID)
	}
	for _, name := range append([]string{img.Name}, img.Links...) {
		if err := events.CheckName(name); err != nil {
			return corrupt("image %d: %w", img.ID, err)
		}
		if names[name] {
			return corrupt("image %d has a name of another", img.ID)
		}
		names[name] = true
	}
	for i, feature := range img.Features {
		if feature != events.FeatureReadOnly || i > 0 {
			return corrupt("image %d has the feature %.40q", img.ID, feature)
		}
	}
	for key, value := range img.Metadata {
		if err := new(attributes).checkMetadata(key, value); err != nil {
			return corrupt("image %d: %w", img.ID, err)
		}
	}
	return nil
}

func (rs *records) checkSnapshots(images map[events.ImageID]*ImageRecord, layers map[LayerID]*LayerRecord) error {
	type named struct {
		image events.ImageID
		name  string
	}
	ids, names := make(map[events.SnapshotID]bool, len(rs.snapshots)), make(map[named]bool, len(rs.snapshots))
	active := make(map[LayerID]bool, len(images))
	for _, img := range images {
		active[img.Layer] = true
	}
	for _, s := range rs.snapshots {
		img, l, name := images[s.Image], layers[s.Layer], named{s.Image, s.Name}
		if s.ID == 0 || s.ID >= rs.next.snapshot || ids[s.ID] || names[name] || img == nil || l == nil || active[s.Layer] {
			return corrupt("snapshot %d contradicts others", s.ID)
		}
		if l.Size != s.Size || l.ObjectSize != img.ObjectSize {
			return corrupt("snapshot %d of %d bytes has a layer of %d", s.ID, s.Size, l.Size)
		}
		if err := events.CheckName(s.Name); err != nil {
			return corrupt("snapshot %d: %w", s.ID, err)
		}
		ids[s.ID], names[name] = true, true
	}
	return nil
}

// checkParents demands that clones stand on protected snapshots.
func (rs *records) checkParents() error {
	protected := make(map[events.SnapshotID]bool)
	for _, s := range rs.snapshots {
		protected[s.ID] = s.Protected
	}
	for _, img := range rs.images {
		if img.Parent != 0 && !protected[img.Parent] {
			return corrupt("image %d is a clone of snapshot %d, which cannot be", img.ID, img.Parent)
		}
	}
	return nil
}

// arrange makes images and snapshots as checked records describe them. The layers are
// there already.
func (r *Replica) arrange(rs *records) {
	for _, record := range rs.images {
		img := r.newImage(record.ID, record.ObjectSize, record.Size, record.Version)
		r.addImage(img, r.layers[record.Layer], attributes{
			names: append([]string{record.Name}, record.Links...), features: record.Features,
			metadata: record.Metadata, limit: record.SnapshotLimit,
		})
	}
	slices.SortFunc(rs.snapshots, func(a, b SnapshotRecord) int { return cmp.Compare(a.ID, b.ID) })
	for _, record := range rs.snapshots {
		img := r.images[record.Image]
		s := &Snapshot{
			image: img, id: record.ID, name: record.Name, size: record.Size, position: record.Position, created: record.Created,
			protected: record.Protected, group: record.Group, layer: r.layers[record.Layer],
			removed: make(chan struct{}), stale: true,
		}
		r.snapshots[s.id] = s
		img.snapshots = append(img.snapshots, s)
	}
	for _, record := range rs.images {
		if record.Parent != 0 {
			r.images[record.ID].parent = r.snapshots[record.Parent]
		}
	}
}
