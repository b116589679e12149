package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"go.etcd.io/bbolt"

	"tidemark/events"
)

// load reads the metadata into memory and opens the layers.
func (r *Replica) load() error {
	var err error
	if r.meta, err = openMetadata(filepath.Join(r.dir, metaName)); err != nil {
		return err
	}
	return r.meta.view(func(tx *bbolt.Tx) error {
		d, err := record(tx, bucketReplica, keyIdentity)
		if err != nil {
			return err
		}
		if r.identity = d.identity(); !d.finish() {
			return corrupt("the identity in the metadata is damaged")
		}
		if d, err = record(tx, bucketReplica, keyState); err != nil {
			return err
		}
		s := d.state()
		if !d.finish() {
			return corrupt("the state in the metadata is damaged")
		}
		r.committed, r.applied, r.seq = s.commit, s.commit.mark, s.commit.seq
		r.begun = s.commit.mark.Position
		r.nextImage, r.nextLayer, r.reach, r.syncing = s.nextImage, s.nextLayer, s.reach, s.syncing
		if err := r.loadTags(tx, s.tags); err != nil {
			return err
		}
		layers, err := r.loadImages(tx, s.images)
		if err != nil {
			return err
		}
		return r.loadObjects(tx, s.objects, layers)
	})
}

func (r *Replica) loadTags(tx *bbolt.Tx, count uint64) error {
	err := each(tx, bucketTags, 4, count, func(key []byte, d *decoder) error {
		t, err := events.DecodeTagClaimed(d.bytes(uint64(len(d.b))))
		if err != nil {
			return corrupt("tag %x in the metadata: %w", key, err)
		}
		if uint32(t.Tag) != binary.BigEndian.Uint32(key) {
			return corrupt("tag %d in the metadata lies under %x", t.Tag, key)
		}
		// Nothing may alias the mapped file.
		r.tags = append(r.tags, *t)
		return nil
	})
	r.tagsSaved = len(r.tags)
	return err
}

func (r *Replica) loadImages(tx *bbolt.Tx, count uint64) (map[uint32]*Image, error) {
	layers := make(map[uint32]*Image)
	err := each(tx, bucketImages, 4, count, func(key []byte, d *decoder) error {
		record, number := d.image()
		switch {
		case d.failed:
			return nil // each says so
		case uint32(record.ID) != binary.BigEndian.Uint32(key), record.ID >= r.nextImage, number >= r.nextLayer,
			layers[number] != nil, r.names[record.Name] != nil:
			return corrupt("image %d in the metadata contradicts others", record.ID)
		}
		if err := CheckImage(record.Size, record.ObjectSize); err != nil {
			return corrupt("image %d in the metadata: %w", record.ID, err)
		}
		file, err := r.fs.Open(layerPath(r.dir, number))
		if errors.Is(err, fs.ErrNotExist) {
			return corrupt("the file of layer %d of image %q is missing: %w", number, record.Name, err)
		} else if err != nil {
			return fmt.Errorf("open layer %d: %w", number, err)
		}
		img := r.newImage(record, &layer{number: number, file: file})
		img.recorded = true
		r.images[img.id], r.names[img.name], layers[number] = img, img, img
		return nil
	})
	return layers, err
}

func (r *Replica) loadObjects(tx *bbolt.Tx, count uint64, layers map[uint32]*Image) error {
	return each(tx, bucketObjects, len(objectKey{}), count, func(key []byte, d *decoder) error {
		number, index := binary.BigEndian.Uint32(key[:4]), binary.BigEndian.Uint64(key[4:])
		img := layers[number]
		if img == nil || index >= img.active.objects.count {
			return corrupt("object %d of layer %d in the metadata belongs to nothing", index, number)
		}
		l := img.active
		o := l.objects.make(index)
		d.object(o, l.objects)
		if o.blocks != nil {
			l.filled++
			l.used += uint64(o.blocks.count)
		}
		if o.flags&missing != 0 {
			r.lost++
		}
		l.records++
		return nil
	})
}
