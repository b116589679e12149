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
		r.nextImage, r.nextSnapshot, r.nextLayer, r.nextFile = s.nextImage, s.nextSnapshot, s.nextLayer, s.nextFile
		r.reach, r.syncing = s.reach, s.syncing
		r.loadNewJournal(tx)
		if err := r.loadResync(tx); err != nil {
			return err
		}
		if err := r.loadTags(tx, s.tags); err != nil {
			return err
		}
		if err := r.loadOperations(tx, s.operations); err != nil {
			return err
		}
		if err := r.loadStructure(tx, s); err != nil {
			return err
		}
		return r.loadObjects(tx, s.objects)
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

func (r *Replica) loadOperations(tx *bbolt.Tx, count uint64) error {
	return each(tx, bucketOperations, 8, count, func(key []byte, d *decoder) error {
		o, err := d.operation(events.Position(binary.BigEndian.Uint64(key)))
		r.unfinished = append(r.unfinished, o)
		return err
	})
}

// loadStructure reads images, snapshots and layers, and puts them together.
func (r *Replica) loadStructure(tx *bbolt.Tx, s state) error {
	rs, files, err := readRecords(tx, s)
	if err != nil {
		return err
	}
	if err := rs.check(); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	for _, record := range rs.layers {
		if err := r.openLayer(layerRecord{record, files[record.ID]}); err != nil {
			return err
		}
	}
	for _, record := range rs.layers {
		r.layers[record.ID].parent = r.layers[record.Parent]
	}
	r.arrange(&rs)
	r.altered = false
	for _, img := range r.images {
		img.stale, img.recorded = false, true
	}
	for _, s := range r.snapshots {
		s.stale, s.recorded = false, true
	}
	return nil
}

// readRecords reads images, snapshots, and layers with the numbers of their files.
func readRecords(tx *bbolt.Tx, s state) (rs records, files map[LayerID]uint32, err error) {
	rs.next.image, rs.next.snapshot, rs.next.layer = s.nextImage, s.nextSnapshot, s.nextLayer
	err = each(tx, bucketImages, 4, s.images, func(key []byte, d *decoder) error {
		record := d.image()
		rs.images = append(rs.images, record)
		return misplaced(d, key, uint32(record.ID))
	})
	if err != nil {
		return rs, nil, err
	}
	err = each(tx, bucketSnapshots, 4, s.snapshots, func(key []byte, d *decoder) error {
		record := d.snapshot()
		rs.snapshots = append(rs.snapshots, record)
		return misplaced(d, key, uint32(record.ID))
	})
	if err != nil {
		return rs, nil, err
	}
	files, taken := make(map[LayerID]uint32), make(map[uint32]bool)
	err = each(tx, bucketLayers, 4, s.layers, func(key []byte, d *decoder) error {
		record := d.layer()
		if !d.failed && (record.number >= s.nextFile || taken[record.number]) {
			return corrupt("layer %d in the metadata has the file %d", record.ID, record.number)
		}
		files[record.ID], taken[record.number] = record.number, true
		rs.layers = append(rs.layers, record.LayerRecord)
		return misplaced(d, key, uint32(record.ID))
	})
	return rs, files, err
}

// misplaced returns an error for a record that lies under another's key. Of one that could
// not be read each says so.
func misplaced(d *decoder, key []byte, id uint32) error {
	if !d.failed && id != binary.BigEndian.Uint32(key) {
		return corrupt("record %d in the metadata lies under %x", id, key)
	}
	return nil
}

// openLayer opens a layer's file.
func (r *Replica) openLayer(record layerRecord) error {
	file, err := r.fs.Open(layerPath(r.dir, record.number))
	if errors.Is(err, fs.ErrNotExist) {
		return corrupt("the file of layer %d is missing: %w", record.ID, err)
	} else if err != nil {
		return fmt.Errorf("open layer %d: %w", record.ID, err)
	}
	l := newLayerOf(record.LayerRecord)
	l.number, l.file, l.recorded = record.number, file, true
	r.prepare(l)
	r.layers[l.id] = l
	return nil
}

// newLayerOf returns a layer as a record describes it, without parent, file and table.
func newLayerOf(record LayerRecord) *layer {
	return &layer{
		id: record.ID, owner: record.Owner, objectSize: record.ObjectSize, size: record.Size,
		overlap: record.Overlap, floor: record.Floor, floorEnd: record.FloorEnd,
	}
}

func (r *Replica) loadObjects(tx *bbolt.Tx, count uint64) error {
	files := make(map[uint32]*layer, len(r.layers))
	for _, l := range r.layers {
		files[l.number] = l
	}
	return each(tx, bucketObjects, len(objectKey{}), count, func(key []byte, d *decoder) error {
		number, index := binary.BigEndian.Uint32(key[:4]), binary.BigEndian.Uint64(key[4:])
		l := files[number]
		if l == nil || index >= l.objects.count {
			return corrupt("object %d of file %d in the metadata belongs to nothing", index, number)
		}
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
