package replica

import (
	"fmt"

	"tidemark/events"
)

func (r *Replica) createImage(e events.ImageCreated, position, version, before events.Position) error {
	if old := r.names[e.Name]; old != nil && old.id == e.Image && old.Version() == version {
		return nil
	} else if old != nil || before != 0 {
		have := events.Position(0)
		if old != nil {
			have = old.Version()
		}
		return &MismatchError{Position: position, Image: e.Image, Record: true, Want: before, Have: have}
	}
	if e.Image < r.nextImage {
		return corrupt("entry %v creates image %d, a number used before (the next is %d)", position, e.Image, r.nextImage)
	}
	if err := events.CheckName(e.Name); err != nil {
		return corrupt("entry %v: %w", position, err)
	}
	if err := CheckImage(e.Size, e.ObjectSize); err != nil {
		return corrupt("entry %v creates an impossible image: %w", position, err)
	}
	record := ImageRecord{ID: e.Image, Name: e.Name, Size: e.Size, ObjectSize: e.ObjectSize, Version: version}
	if err := r.addImage(record); err != nil {
		return fmt.Errorf("apply entry %v: %w", position, err)
	}
	return nil
}

// addImage makes an image with an empty layer.
func (r *Replica) addImage(record ImageRecord) error {
	number := r.nextLayer
	path := layerPath(r.dir, number)
	file, err := r.fs.Create(path)
	if err != nil {
		return fmt.Errorf("create layer %s: %w", path, err)
	}
	img := r.newImage(record, &layer{number: number, file: file, unsynced: true})
	r.nextLayer++
	r.nextImage = max(r.nextImage, record.ID+1)
	r.altered, r.newNames = true, true
	r.mu.Lock()
	defer r.mu.Unlock()
	r.images[img.id], r.names[img.name] = img, img
	return nil
}

// newImage returns an image with a layer whose objects are not known yet.
func (r *Replica) newImage(record ImageRecord, l *layer) *Image {
	l.objectSize, l.zeroes = record.ObjectSize, r.zeroes
	l.objects = newTable(objectCount(record.Size, record.ObjectSize), record.ObjectSize/BlockSize)
	img := &Image{replica: r, id: record.ID, name: record.Name, objectSize: record.ObjectSize, active: l}
	img.size.Store(record.Size)
	img.version.Store(uint64(record.Version))
	return img
}

func objectCount(size, objectSize uint64) uint64 { return (size + objectSize - 1) / objectSize }

// imageFor returns the image that an entry changes as a whole; nil when the entry was
// applied before.
func (r *Replica) imageFor(id events.ImageID, position, version, before events.Position) (*Image, error) {
	img := r.images[id]
	if img == nil {
		return nil, &MismatchError{Position: position, Image: id, Record: true, Want: before}
	}
	switch have := img.Version(); have {
	case version:
		return nil, nil
	case before:
		return img, nil
	default:
		return nil, &MismatchError{Position: position, Image: id, Record: true, Want: before, Have: have}
	}
}

func (r *Replica) resizeImage(e events.ImageResized, position, version, before events.Position) error {
	img, err := r.imageFor(e.Image, position, version, before)
	if img == nil {
		return err
	}
	if err := CheckImage(e.Size, img.objectSize); err != nil {
		return corrupt("entry %v gives image %d an impossible size: %w", position, e.Image, err)
	}
	img.lockAll()
	defer img.unlockAll()
	from := img.Size()
	if e.Size < from {
		if err := r.shrink(img, from, e.Size, position); err != nil {
			return fmt.Errorf("apply entry %v: shrink image %d: %w", position, e.Image, err)
		}
	}
	l := img.active
	l.objects = l.objects.resized(objectCount(e.Size, img.objectSize))
	img.size.Store(e.Size)
	img.version.Store(uint64(version))
	r.altered = true
	return nil
}

// shrink drops what lies beyond the new end. The file keeps its size, so that what the
// last checkpoint calls allocated can be read after a crash. All stripes are held.
func (r *Replica) shrink(img *Image, from, to uint64, position events.Position) error {
	l := img.active
	r.lost -= l.drop(objectCount(to, img.objectSize))
	punchFrom := objectCount(to, img.objectSize) * img.objectSize
	if index, ok := Boundary(from, to, img.objectSize); ok {
		o := l.objects.make(index)
		// A copy made after this entry has its effect, and perhaps what came after.
		if !r.catchingUp() || o.version < position {
			base := index * img.objectSize
			if err := l.discard(o, base, to-base, img.objectSize); err != nil {
				return err
			}
			o.version = position
			l.touch(o, index)
			punchFrom = (to + BlockSize - 1) / BlockSize * BlockSize
		}
	}
	return l.punch(punchFrom, objectCount(from, img.objectSize)*img.objectSize)
}

func (r *Replica) removeImage(e events.ImageRemoved, position, version, before events.Position) error {
	img, err := r.imageFor(e.Image, position, version, before)
	if img == nil {
		return err
	}
	img.lockAll()
	defer img.unlockAll()
	l := img.active
	r.lost -= l.drop(0)
	l.objects = l.objects.resized(0)
	img.removed.Store(true)
	for i := range img.stripes {
		img.stripes[i].staged = nil
	}
	if img.recorded {
		r.goneImages = append(r.goneImages, img.id)
	}
	r.doomed = append(r.doomed, l)
	r.altered = true
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.images, img.id)
	delete(r.names, img.name)
	return nil
}
