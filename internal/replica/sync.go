package replica

import (
	"cmp"
	"fmt"
	"slices"

	"tidemark/events"
	"tidemark/internal/fault"
)

// ImageRecord is an image as a first sync carries it.
type ImageRecord struct {
	ID            events.ImageID    `json:"id"`
	Name          string            `json:"name"`
	Size          uint64            `json:"size"`        // bytes
	ObjectSize    uint64            `json:"object_size"` // bytes
	Version       events.Position   `json:"version"`
	Links         []string          `json:"links"` // its other names, oldest first
	Layer         LayerID           `json:"layer"` // that writes go to
	Features      []string          `json:"features"`
	Metadata      map[string]string `json:"metadata"`
	SnapshotLimit uint32            `json:"snapshot_limit"`
	Parent        events.SnapshotID `json:"parent"` // that a clone stands on; 0: none
}

// SnapshotRecord is a snapshot as a first sync carries it.
type SnapshotRecord struct {
	ID        events.SnapshotID `json:"id"`
	Image     events.ImageID    `json:"image"`
	Name      string            `json:"name"`
	Size      uint64            `json:"size"` // bytes
	Position  events.Position   `json:"position"`
	Created   events.Instant    `json:"created"`
	Protected bool              `json:"protected"`
	Group     bool              `json:"group"`
	Layer     LayerID           `json:"layer"`
}

// SyncStart is what a first sync begins with: the source between two messages.
type SyncStart struct {
	History   string              `json:"history"`
	Mark      events.Mark         `json:"mark"`
	Tags      []events.TagClaimed `json:"tags"` // all, oldest first
	Images    []ImageRecord       `json:"images"`
	NextImage events.ImageID      `json:"next_image"`

	Snapshots    []SnapshotRecord  `json:"snapshots"`
	Layers       []LayerRecord     `json:"layers"` // parents before their children
	Unfinished   []Operation       `json:"unfinished"`
	NextSnapshot events.SnapshotID `json:"next_snapshot"`
	NextLayer    LayerID           `json:"next_layer"`
}

// ObjectCopy is one object's content and version.
type ObjectCopy struct {
	Version events.Position `json:"version"`
	// AtLeast and AtMost bound the entries in the content: all up to AtLeast, none
	// behind AtMost.
	AtLeast events.Position `json:"at_least"`
	AtMost  events.Position `json:"at_most"`
	// Blocks has a bit for each block of [BlockSize] bytes, the lowest of the first
	// word being the first, and set when it is allocated. Nil: none is.
	Blocks []uint64 `json:"blocks"`
	// Hidden has a bit, like Blocks, for each block that reads as zeroes whatever the
	// layer below holds. Nil: none does.
	Hidden []uint64 `json:"hidden"`
	// Data holds the allocated blocks one behind the other.
	Data []byte `json:"data"`
}

// SyncStart returns what a follower begins a first sync from this replica with. It
// then copies the objects in any order, and afterwards replays from the mark. It fails
// with [ErrSyncing] while this replica is not consistent itself.
func (r *Replica) SyncStart() (SyncStart, error) {
	r.applying.Lock()
	defer r.applying.Unlock()
	if r.syncing || r.catchingUp() {
		return SyncStart{}, fault.New(fault.NotReady, "be the source of a sync: %w", ErrSyncing)
	}
	s := SyncStart{History: r.Identity().History, Mark: r.Applied(), Tags: r.Tags(), NextImage: r.nextImage}
	for _, img := range r.images {
		s.Images = append(s.Images, img.record())
	}
	slices.SortFunc(s.Images, func(a, b ImageRecord) int { return cmp.Compare(a.ID, b.ID) })
	return s, nil
}

// BeginSync makes an empty replica one that is being synced: it adopts the source's
// history, mark, tags and images, durably, and waits for their objects. It fails with
// [ErrExists] when the replica is not empty, also when a sync began before: that one
// goes on where it was.
func (r *Replica) BeginSync(start SyncStart) error {
	if err := r.adopt(start); err != nil {
		return fmt.Errorf("begin the first sync: %w", err)
	}
	if _, err := r.checkpoint(); err != nil {
		return fmt.Errorf("begin the first sync: %w", err)
	}
	return nil
}

func (r *Replica) adopt(start SyncStart) error {
	r.applying.Lock()
	defer r.applying.Unlock()
	if err := r.usable(); err != nil {
		return err
	}
	if r.syncing || r.applied != (events.Mark{}) || len(r.images) > 0 || r.nextImage > 1 {
		return fault.New(fault.Exists, "the replica holds something: it %w", ErrExists)
	}
	if err := start.check(); err != nil {
		return err
	}
	identity := r.identity
	identity.History = start.History
	if err := identity.check(); err != nil {
		return err
	}
	for _, record := range start.Images {
		if err := r.addImage(record); err != nil {
			return r.fail(err)
		}
	}
	r.syncing, r.altered, r.reach = true, true, start.Mark.Position
	r.nextImage = max(r.nextImage, start.NextImage)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.identity, r.applied, r.begun = identity, start.Mark, start.Mark.Position
	r.tags = slices.Clone(start.Tags)
	return nil
}

// check refuses a start that no source can have sent.
func (s *SyncStart) check() error {
	ids, names := make(map[events.ImageID]bool), make(map[string]bool)
	for _, img := range s.Images {
		if err := events.CheckName(img.Name); err != nil {
			return corrupt("image %d of the source: %w", img.ID, err)
		}
		if err := CheckImage(img.Size, img.ObjectSize); err != nil {
			return corrupt("image %d of the source: %w", img.ID, err)
		}
		if img.ID == 0 || img.ID >= s.NextImage || ids[img.ID] || names[img.Name] {
			return corrupt("image %d of the source contradicts others", img.ID)
		}
		ids[img.ID], names[img.Name] = true, true
	}
	for i, t := range s.Tags {
		if _, mark := t.Encode(t.Mark.Time); !mark.Same(t.Mark) || i > 0 && t.Tag <= s.Tags[i-1].Tag {
			return corrupt("tag %d of the source is damaged", t.Tag)
		}
	}
	return nil
}

// CopyObject returns one object as it is: what was applied to it, never what is only
// staged, and its version, both of one moment. Data uses the room of buf if it
// suffices. A removed image is [ErrNotFound]; an object that the image does not have,
// or that was never touched, has version 0 and no data.
//
// After a crash files may be ahead of versions, so a replica is no source until it has
// replayed what it had applied before.
func (img *Image) CopyObject(index uint64, buf []byte) (ObjectCopy, error) {
	r := img.replica
	atLeast := r.Applied().Position
	s := img.stripe(index)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if img.removed.Load() {
		return ObjectCopy{}, fmt.Errorf("copy %s: %w", objectName(img.id, index), ErrNotFound)
	}
	r.mu.RLock()
	atMost := r.begun
	r.mu.RUnlock()
	out := ObjectCopy{AtLeast: atLeast, AtMost: atMost, Data: buf[:0]}
	l := img.active
	o := l.objects.get(index)
	if o == nil {
		return out, nil
	}
	out.Version = o.version
	if o.blocks == nil {
		return out, nil
	}
	out.Blocks = slices.Clone(o.blocks.words)
	out.Data = slices.Grow(out.Data, o.blocks.count*BlockSize)
	blocks := img.objectSize / BlockSize
	for at := uint64(0); at < blocks; {
		allocated, end := o.blocks.run(at, blocks)
		if allocated {
			have := len(out.Data)
			out.Data = out.Data[:have+int(end-at)*BlockSize]
			if err := l.readFile(index*img.objectSize+at*BlockSize, out.Data[have:]); err != nil {
				return ObjectCopy{}, fmt.Errorf("copy %s: %w", objectName(img.id, index), err)
			}
		}
		at = end
	}
	return out, nil
}

// InstallObject puts a copy of a layer's object in place of what is there; the next
// checkpoint makes it durable. An object that lies beyond the image's end as of the
// sync's start is left out, because replay makes it. A copy that is older than the
// sync's start is [ErrStale], one that contradicts itself has the code [fault.Corrupt].
func (r *Replica) InstallObject(layer LayerID, index uint64, c ObjectCopy) error {
	r.applying.Lock()
	defer r.applying.Unlock()
	if err := r.usable(); err != nil {
		return err
	}
	if !r.syncing {
		return fault.New(fault.NotReady, "install %s: %w", layerObjectName(layer, index), ErrNotSyncing)
	}
	var img *Image
	for _, i := range r.images {
		if LayerID(i.active.number) == layer {
			img = i
		}
	}
	if img == nil {
		return fault.New(fault.NotFound, "install %s: %w", layerObjectName(layer, index), ErrNotFound)
	}
	l := img.active
	if index >= l.objects.count {
		return nil
	}
	blocks, err := c.check(r.applied.Position, l.objects.full)
	if err != nil {
		return fmt.Errorf("install %s: %w", layerObjectName(layer, index), err)
	}
	s := img.stripe(index)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := l.install(index, c, blocks); err != nil {
		return r.fail(fmt.Errorf("install %s: %w", layerObjectName(layer, index), err))
	}
	r.reach = max(r.reach, c.Version, c.AtMost)
	return nil
}

// check returns the copy's bitmap.
func (c *ObjectCopy) check(start events.Position, full *bitmap) (*bitmap, error) {
	if c.AtLeast < start {
		return nil, fault.New(fault.NotReady, "copy of %v, sync from %v: %w", c.AtLeast, start, ErrStale)
	}
	words := c.Blocks
	if words == nil {
		words = make([]uint64, len(full.words))
	}
	blocks := checkedBitmap(slices.Clone(words), full)
	if blocks == nil || blocks.count*BlockSize != len(c.Data) || c.Version == 0 && blocks.count > 0 {
		return nil, corrupt("a copy with %d bytes contradicts itself", len(c.Data))
	}
	return blocks, nil
}

// install writes a copy into the layer. The object's stripe is held.
func (l *layer) install(index uint64, c ObjectCopy, blocks *bitmap) error {
	base := index * l.objectSize
	if o := l.objects.get(index); o != nil && o.blocks != nil {
		if err := l.punch(base, base+l.objectSize); err != nil {
			return err
		}
	}
	data := c.Data
	for at := uint64(0); at < l.objectSize/BlockSize; {
		allocated, end := blocks.run(at, l.objectSize/BlockSize)
		if allocated {
			n := (end - at) * BlockSize
			l.unsynced = true
			if err := l.writeFile(base+at*BlockSize, data[:n]); err != nil {
				return err
			}
			data = data[n:]
		}
		at = end
	}
	if c.Version == 0 && l.objects.get(index) == nil {
		return nil
	}
	o := l.objects.make(index)
	l.replace(o, blocks)
	o.version = c.Version
	l.touch(o, index)
	return nil
}

// Synced reports whether a first sync has installed an object, and in which version:
// after [Open] the last checkpoint says which, so that a sync that was killed copies
// only the others. An object that the source never touched is not told apart from one
// that is still to come.
func (r *Replica) Synced(layer LayerID, index uint64) (version events.Position, ok bool) {
	img := r.imageOf(layer)
	if img == nil {
		return 0, false
	}
	version = img.ObjectVersion(index)
	return version, version != 0
}

// Syncing reports whether a first sync has begun and not ended.
func (r *Replica) Syncing() bool {
	r.applying.Lock()
	defer r.applying.Unlock()
	return r.syncing
}

// Consistent reports whether the replica holds exactly what [Replica.Applied] names:
// no first sync runs, and replay has gone as far as the newest copy that it installed.
// It knows nothing of what a crash interrupted: see [Open].
func (r *Replica) Consistent() bool {
	r.applying.Lock()
	defer r.applying.Unlock()
	return !r.syncing && !r.catchingUp()
}

// EndSync ends a first sync, durably: all objects are installed, and replay may begin.
// reached is where the source had come ([Replica.Applied] there) once its objects had
// been listed; an object that it dropped before is not in the list, and replay from
// the start needs it no longer from there on.
func (r *Replica) EndSync(reached events.Position) error {
	if err := r.endSync(reached); err != nil {
		return fmt.Errorf("end the first sync: %w", err)
	}
	if _, err := r.checkpoint(); err != nil {
		return fmt.Errorf("end the first sync: %w", err)
	}
	return nil
}

func (r *Replica) endSync(reached events.Position) error {
	r.applying.Lock()
	defer r.applying.Unlock()
	if err := r.usable(); err != nil {
		return err
	}
	if !r.syncing {
		return fault.New(fault.NotReady, "%w", ErrNotSyncing)
	}
	if reached < r.applied.Position {
		return fault.New(fault.NotReady, "source at %v, sync from %v: %w", reached, r.applied.Position, ErrStale)
	}
	r.syncing, r.altered, r.reach = false, true, max(r.reach, reached)
	return nil
}

// catchingUp reports whether objects may include entries behind what was applied.
func (r *Replica) catchingUp() bool { return r.applied.Position < r.reach }

// checkCaughtUp demands, when replay has reached all that was installed, that nothing
// is missing any more.
func (r *Replica) checkCaughtUp() error {
	if r.lost == 0 || r.catchingUp() {
		return nil
	}
	for _, img := range r.images {
		var err error
		img.active.objects.touched(0, func(index uint64, o *object) bool {
			if o.flags&missing != 0 {
				err = &MismatchError{Position: r.applied.Position, Image: img.id, Object: index, Want: o.version}
			}
			return err == nil
		})
		if err != nil {
			return r.fail(fmt.Errorf("the first sync did not bring an object: %w", err))
		}
	}
	return nil
}
