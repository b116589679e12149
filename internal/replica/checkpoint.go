package replica

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"tidemark/events"
)

// changes is what one checkpoint makes durable.
type changes struct {
	commit   commit
	files    []*layer // to sync
	newNames bool     // sync the layers' folder too
	doomed   []*layer // to remove once committed
	freed    []hole   // to punch once committed
}

// Checkpoint makes what was applied durable and returns the mark that a replica opened
// after a crash has: first the data is written back and synced, then versions, allocation and the mark
// are committed in one transaction. Apply and reads go on meanwhile. Without changes it
// does nothing. ctx is looked at before it begins; a sync cannot be stopped.
//
// After a failure of a sync or of the transaction nothing is known about the disk, and
// the kernel may have dropped what it could not write: the replica has failed for good.
func (r *Replica) Checkpoint(ctx context.Context) (events.Mark, error) {
	if err := ctx.Err(); err != nil {
		return events.Mark{}, fmt.Errorf("checkpoint: %w", err)
	}
	return r.checkpoint()
}

func (r *Replica) checkpoint() (events.Mark, error) {
	r.checkpointing.Lock()
	defer r.checkpointing.Unlock()
	if err := r.writeBack(); err != nil {
		return events.Mark{}, err
	}
	r.applying.Lock()
	snap, err := r.gather()
	r.applying.Unlock()
	if err != nil {
		return events.Mark{}, err
	}
	mark, err := r.commit(snap)
	if err != nil || snap == nil || len(snap.freed) == 0 {
		return mark, err
	}
	r.applying.Lock()
	defer r.applying.Unlock()
	return mark, r.punchFreed(snap.freed)
}

// commit makes changes durable; none at all is fine too. checkpointing is held.
func (r *Replica) commit(snap *changes) (events.Mark, error) {
	if snap == nil {
		mark, _ := r.Committed()
		return mark, nil
	}
	if err := r.syncData(snap); err != nil {
		return events.Mark{}, r.fail(fmt.Errorf("checkpoint %v: %w", snap.commit.state.commit.mark.Position, err))
	}
	slices.SortFunc(snap.commit.objects, func(a, b objectRecord) int { return bytes.Compare(a.key[:], b.key[:]) })
	// The commit point: before it a crash leaves the last checkpoint, after it this one.
	if err := r.meta.store(&snap.commit); err != nil {
		return events.Mark{}, r.fail(fmt.Errorf("checkpoint %v: commit: %w", snap.commit.state.commit.mark.Position, err))
	}
	r.mu.Lock()
	r.committed = snap.commit.state.commit
	r.mu.Unlock()
	r.bury(snap.doomed)
	return snap.commit.state.commit.mark, nil
}

func (r *Replica) syncData(snap *changes) error {
	for _, l := range snap.files {
		if err := l.file.Sync(); err != nil {
			return fmt.Errorf("sync layer %d: %w", l.id, err)
		}
	}
	if snap.newNames {
		if err := r.fs.SyncDir(filepath.Join(r.dir, layersFolder)); err != nil {
			return fmt.Errorf("sync the names of layers: %w", err)
		}
	}
	return nil
}

// bury removes the files of layers that are committed as forgotten. What cannot be
// removed now is no layer's any more, and goes when the replica is opened.
func (r *Replica) bury(doomed []*layer) {
	for _, l := range doomed {
		_ = l.file.Close()
		_ = r.fs.Remove(layerPath(r.dir, l.number))
	}
}

// gather takes everything that differs from the metadata, as of the end of the last
// message applied; nil when nothing does. applying is held.
func (r *Replica) gather() (*changes, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	if !r.differs() {
		return nil, nil
	}
	snap := &changes{newNames: r.newNames, doomed: r.doomed, freed: r.freed}
	c := &snap.commit
	objects := uint64(0)
	for _, l := range r.layers {
		if l.unsynced {
			snap.files = append(snap.files, l)
			l.unsynced, l.written = false, 0
		}
		c.addObjects(l)
		objects += l.records
	}
	for _, l := range r.doomed {
		if l.records > 0 {
			c.goneFiles = append(c.goneFiles, l.number)
		}
	}
	if r.altered {
		r.gatherRecords(c)
	}
	c.identity, c.goneTags, c.newJournal, c.resync = r.identity, r.goneTags, r.newJournal, r.resync
	c.tags = slices.Clone(r.tags[r.tagsSaved:])
	c.state = r.state(objects)
	r.tagsSaved = len(r.tags)
	r.altered, r.newNames, r.doomed, r.freed, r.raised, r.goneTags = false, false, nil, nil, false, nil
	return snap, nil
}

// gatherRecords takes the records of images, layers, snapshots and operations that differ
// from the metadata.
func (r *Replica) gatherRecords(c *commit) {
	for _, img := range r.images {
		if img.stale {
			c.images = append(c.images, img.record())
		}
		img.stale, img.recorded = false, true
	}
	for _, l := range r.layers {
		if l.stale {
			c.layers = append(c.layers, layerRecord{l.record(), l.number})
		}
		l.stale, l.recorded = false, true
	}
	for _, s := range r.snapshots {
		if s.stale {
			c.snapshots = append(c.snapshots, s.record())
		}
		s.stale, s.recorded = false, true
	}
	c.operations = slices.DeleteFunc(r.newOperations, func(o Operation) bool {
		return slices.Contains(r.goneOperations, o.Started)
	})
	c.goneImages, c.goneSnapshots, c.goneLayers = r.goneImages, r.goneSnapshots, r.goneLayers
	c.goneOperations = r.goneOperations
	r.goneImages, r.goneSnapshots, r.goneLayers, r.goneOperations, r.newOperations = nil, nil, nil, nil, nil
}

func (r *Replica) state(objects uint64) state {
	return state{
		commit: commitPoint{r.applied, r.seq}, nextImage: r.nextImage, nextSnapshot: r.nextSnapshot,
		nextLayer: r.nextLayer, nextFile: r.nextFile, reach: r.reach, syncing: r.syncing,
		tags: uint64(len(r.tags)), images: uint64(len(r.images)), snapshots: uint64(len(r.snapshots)),
		layers: uint64(len(r.layers)), operations: uint64(len(r.unfinished)), objects: objects,
	}
}

// differs reports whether a checkpoint would change the metadata. Without objects that
// changed there is no data to sync either.
func (r *Replica) differs() bool {
	if r.altered || r.committed != (commitPoint{r.applied, r.seq}) {
		return true
	}
	for _, l := range r.layers {
		if len(l.changed) > 0 || len(l.gone) > 0 {
			return true
		}
	}
	return false
}

// addObjects records what changed in a layer's table.
func (c *commit) addObjects(l *layer) {
	for _, index := range l.gone {
		c.goneObjects = append(c.goneObjects, keyOfObject(l.number, index))
		l.records--
	}
	var arena []byte
	for _, index := range l.changed {
		o := l.objects.get(index)
		if o == nil || o.flags&dirty == 0 {
			continue // dropped, or recorded already in this round
		}
		if o.flags&recorded == 0 {
			l.records++
		}
		o.flags = o.flags&^dirty | recorded
		if cap(arena)-len(arena) < objectRecordMax {
			arena = make([]byte, 0, arenaSize)
		}
		key, start := keyOfObject(l.number, index), len(arena)
		arena = appendObject(append(arena, recordVersion), o, l.objects.full)
		arena = sealRecord(arena, start, []byte(bucketObjects), key[:])
		c.objects = append(c.objects, objectRecord{key, arena[start:len(arena):len(arena)]})
	}
	l.gone, l.changed = nil, nil
}

const (
	// objectRecordMax bounds an object's record: its bitmaps, and what is around them.
	objectRecordMax = 2*ObjectSizeMax/BlockSize/8 + 64
	// arenaSize is how much room for records is made at once; nothing moves once made.
	arenaSize = 64 << 10
)

func (img *Image) record() ImageRecord {
	a := &img.attributes
	record := ImageRecord{
		ID: img.id, Name: a.names[0], Size: img.Size(), ObjectSize: img.objectSize, Version: img.Version(),
		Links: a.names[1:], Layer: img.active.id, Features: a.features, Metadata: a.metadata, SnapshotLimit: a.limit,
	}
	if a.parent != nil {
		record.Parent = a.parent.id
	}
	return record
}

func (s *Snapshot) record() SnapshotRecord {
	return SnapshotRecord{
		ID: s.id, Image: s.image.id, Name: s.name, Size: s.size, Position: s.position, Created: s.created,
		Protected: s.protected, Group: s.group, Layer: s.layer.id,
	}
}

func (l *layer) record() LayerRecord {
	record := LayerRecord{
		ID: l.id, Owner: l.owner, ObjectSize: l.objectSize, Size: l.size, Overlap: l.overlap, Floor: l.floor, FloorEnd: l.floorEnd,
	}
	if l.parent != nil {
		record.Parent = l.parent.id
	}
	return record
}
