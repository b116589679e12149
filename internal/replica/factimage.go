package replica

import (
	"fmt"
	"maps"
	"slices"

	"tidemark/events"
)

func (r *Replica) createImage(e events.ImageCreated, at stamp) error {
	img := r.newImage(e.Image, e.ObjectSize, e.Size, at.version)
	l, err := r.newLayer(img, e.Size, nil)
	if err != nil {
		return err
	}
	r.addImage(img, l, attributes{names: []string{e.Name}, limit: events.SnapshotsMax})
	return nil
}

// cloneImage makes an image whose layer stands on a snapshot's. What it never touched has
// the version of the clone, not those that the parent's entries gave.
func (r *Replica) cloneImage(e events.ImageCloned, at stamp) error {
	s := r.snapshots[e.Snapshot]
	img := r.newImage(e.Image, s.image.objectSize, s.size, at.version)
	l, err := r.newLayer(img, s.size, s.layer)
	if err != nil {
		return err
	}
	l.floor, l.floorEnd = at.version, l.overlap
	r.addImage(img, l, attributes{names: []string{e.Name}, limit: events.SnapshotsMax, parent: s})
	return nil
}

// newImage returns an image that has no layer yet.
func (r *Replica) newImage(id events.ImageID, objectSize, size uint64, version events.Position) *Image {
	img := &Image{replica: r, id: id, objectSize: objectSize}
	img.size.Store(size)
	img.version.Store(uint64(version))
	return img
}

// addImage makes an image known.
func (r *Replica) addImage(img *Image, active *layer, a attributes) {
	img.active, img.attributes = active, a
	img.stale, r.altered = true, true
	r.nextImage = max(r.nextImage, img.id+1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.images[img.id] = img
	for _, name := range a.names {
		r.names[name] = img
	}
}

// changeImage carries out a fact about an image.
func (r *Replica) changeImage(img *Image, fact events.Event, at stamp) error {
	switch e := fact.(type) {
	case events.ImageResized:
		return r.resizeImage(img, e.Size, at)
	case events.ImageRemoved:
		r.removeImage(img)
	case events.ImageRenamed:
		img.rename(e.From, e.To)
	case events.ImageLinked:
		img.rename("", e.Name)
	case events.ImageUnlinked:
		img.rename(e.Name, "")
	default:
		img.change(func(a *attributes) { a.apply(fact) })
	}
	return nil
}

// apply carries out a fact that concerns nothing but attributes.
func (a *attributes) apply(fact events.Event) {
	switch e := fact.(type) {
	case events.ImageFlattened:
		a.parent = nil
	case events.FeatureChanged:
		features := slices.DeleteFunc(slices.Clone(a.features), func(f string) bool { return f == e.Feature })
		if e.Enabled {
			features = append(features, e.Feature)
			slices.Sort(features)
		}
		a.features = features
	case events.MetadataSet:
		metadata := maps.Clone(a.metadata)
		if metadata == nil {
			metadata = make(map[string]string)
		}
		metadata[e.Key] = e.Value
		a.metadata = metadata
	case events.MetadataRemoved:
		a.metadata = maps.Clone(a.metadata)
		delete(a.metadata, e.Key)
	case events.SnapshotLimitChanged:
		a.limit = e.Limit
	}
}

// rename replaces a name by another; an empty one is none.
func (img *Image) rename(from, to string) {
	r := img.replica
	img.change(func(a *attributes) {
		names := slices.Clone(a.names)
		i := slices.Index(names, from)
		switch {
		case i < 0:
			names = append(names, to)
		case to == "":
			names = slices.Delete(names, i, i+1)
		default:
			names[i] = to
		}
		a.names = names
		delete(r.names, from)
		if to != "" {
			r.names[to] = img
		}
	})
}

func (r *Replica) resizeImage(img *Image, size uint64, at stamp) error {
	img.lockAll()
	defer img.unlockAll()
	l := img.active
	from := l.size
	if size < from {
		if err := r.shrink(img, from, size, at); err != nil {
			return fmt.Errorf("shrink image %d: %w", img.id, err)
		}
	}
	r.chain.Lock()
	defer r.chain.Unlock()
	l.objects = l.objects.resized(objectCount(size, img.objectSize))
	l.size, l.overlap, l.floorEnd, l.stale = size, min(l.overlap, blockEnd(size)), min(l.floorEnd, blockEnd(size)), true
	img.size.Store(size)
	return nil
}

// shrink drops what lies beyond the new end. The file keeps its size, so that what the
// last checkpoint calls allocated can be read after a crash. All stripes are held.
func (r *Replica) shrink(img *Image, from, to uint64, at stamp) error {
	l := img.active
	count := objectCount(to, img.objectSize)
	r.lost -= l.drop(count)
	punchFrom := count * img.objectSize
	if index, ok := Boundary(from, to, img.objectSize); ok {
		o := l.objects.make(index)
		// A copy made after this entry has its effect, and perhaps what came after.
		if !r.catchingUp() || o.version < at.position {
			if err := l.discard(o, index, to-index*img.objectSize, img.objectSize); err != nil {
				return err
			}
			o.version = at.position
			l.touch(o, index)
			punchFrom = blockEnd(to)
		}
	}
	return l.punch(punchFrom, objectCount(from, img.objectSize)*img.objectSize)
}

func (r *Replica) removeImage(img *Image) {
	img.lockAll()
	defer img.unlockAll()
	img.removed.Store(true)
	for i := range img.stripes {
		img.stripes[i].staged = nil
	}
	if img.recorded {
		r.goneImages = append(r.goneImages, img.id)
	}
	r.mu.Lock()
	delete(r.images, img.id)
	for _, name := range img.names {
		delete(r.names, name)
	}
	r.mu.Unlock()
	r.chain.Lock()
	defer r.chain.Unlock()
	r.sweep(img.active)
}
