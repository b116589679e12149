package replica

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"tidemark/events"
)

// snapshot is what one checkpoint makes durable.
type snapshot struct {
	commit   commit
	files    []*layer // to sync
	newNames bool     // sync the layers' folder too
	doomed   []*layer // to remove once committed
}

// Checkpoint makes what was applied durable and returns the mark that a replica opened
// after a crash has: first the data is synced, then versions, allocation and the mark
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
	snap, err := r.snapshot()
	if err != nil {
		return events.Mark{}, err
	}
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

func (r *Replica) syncData(snap *snapshot) error {
	for _, l := range snap.files {
		if err := l.file.Sync(); err != nil {
			return fmt.Errorf("sync layer %d: %w", l.number, err)
		}
	}
	if snap.newNames {
		if err := r.fs.SyncDir(filepath.Join(r.dir, layersFolder)); err != nil {
			return fmt.Errorf("sync the names of layers: %w", err)
		}
	}
	return nil
}

// bury removes the files of images that are committed as removed. What cannot be
// removed now is no layer's any more, and goes when the replica is opened.
func (r *Replica) bury(doomed []*layer) {
	for _, l := range doomed {
		_ = l.file.Close()
		_ = r.fs.Remove(layerPath(r.dir, l.number))
	}
}

// snapshot gathers everything that differs from the metadata, as of the end of the
// last message applied; nil when nothing does.
func (r *Replica) snapshot() (*snapshot, error) {
	r.applying.Lock()
	defer r.applying.Unlock()
	if err := r.usable(); err != nil {
		return nil, err
	}
	if !r.differs() {
		return nil, nil
	}
	snap := &snapshot{newNames: r.newNames, doomed: r.doomed}
	c := &snap.commit
	objects := uint64(0)
	for _, img := range r.images {
		l := img.active
		if l.unsynced {
			snap.files = append(snap.files, l)
			l.unsynced = false
		}
		c.addObjects(l)
		objects += l.records
		c.images = append(c.images, imageRecord{img.record(), l.number})
		img.recorded = true
	}
	for _, l := range r.doomed {
		if l.records > 0 {
			c.goneLayers = append(c.goneLayers, l.number)
		}
	}
	c.identity, c.goneImages = r.identity, r.goneImages
	c.tags = slices.Clone(r.tags[r.tagsSaved:])
	c.state = state{
		commit: commitPoint{r.applied, r.seq}, nextImage: r.nextImage, nextLayer: r.nextLayer, reach: r.reach, syncing: r.syncing,
		tags: uint64(len(r.tags)), images: uint64(len(r.images)), objects: objects,
	}
	r.tagsSaved = len(r.tags)
	r.altered, r.newNames, r.doomed, r.goneImages = false, false, nil, nil
	return snap, nil
}

// differs reports whether a checkpoint would change the metadata. Without objects that
// changed there is no data to sync either.
func (r *Replica) differs() bool {
	if r.altered || r.committed != (commitPoint{r.applied, r.seq}) {
		return true
	}
	for _, img := range r.images {
		if len(img.active.changed) > 0 || len(img.active.gone) > 0 {
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
	// objectRecordMax bounds an object's record: its bitmap, and what is around it.
	objectRecordMax = ObjectSizeMax/BlockSize/8 + 64
	// arenaSize is how much room for records is made at once; nothing moves once made.
	arenaSize = 64 << 10
)

func (img *Image) record() ImageRecord {
	return ImageRecord{
		ID: img.id, Name: img.name, Size: img.Size(), ObjectSize: img.objectSize, Version: img.Version(),
	}
}
