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
	// Sequence is that of the message that ends at Mark in the source's journal: a hint.
	Sequence uint64 `json:"sequence,omitempty"`
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
	// Data holds the allocated blocks one behind the other, but those in Same.
	Data []byte `json:"data"`
	// Same has a bit, like Blocks, for each block that was left out because whoever asked
	// has it: see [ObjectCopy.LeaveOut]. Nil: none was.
	Same []uint64 `json:"same,omitempty"`
}

// SyncStart returns what a follower begins a first sync from this replica with. It
// then copies the objects of all layers in any order, and afterwards replays from the
// mark. Until they are copied [Replica.HoldCompaction] should be in force. It fails
// with [ErrSyncing] while this replica is not consistent itself.
func (r *Replica) SyncStart() (SyncStart, error) {
	r.applying.Lock()
	defer r.applying.Unlock()
	if r.syncing || r.catchingUp() {
		return SyncStart{}, fault.New(fault.NotReady, "be the source of a sync: %w", ErrSyncing)
	}
	s := SyncStart{
		History: r.Identity().History, Mark: r.Applied(), Tags: r.Tags(), Layers: r.layerRecords(), Unfinished: slices.Clone(r.unfinished),
		NextImage: r.nextImage, NextSnapshot: r.nextSnapshot, NextLayer: r.nextLayer, Sequence: r.seq,
	}
	for _, img := range r.images {
		s.Images = append(s.Images, img.record())
	}
	for _, snapshot := range r.snapshots {
		s.Snapshots = append(s.Snapshots, snapshot.record())
	}
	slices.SortFunc(s.Images, func(a, b ImageRecord) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Snapshots, func(a, b SnapshotRecord) int { return cmp.Compare(a.ID, b.ID) })
	return s, nil
}

// BeginSync makes an empty replica one that is being synced: it adopts the source's
// history, mark, tags, images, snapshots, layers and unfinished operations, durably, and
// waits for the objects. It fails with
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
	if r.syncing || r.applied != (events.Mark{}) || len(r.layers) > 0 || r.nextImage > 1 {
		return fault.New(fault.Exists, "the replica holds something: it %w", ErrExists)
	}
	rs, err := start.check()
	if err != nil {
		return err
	}
	identity := r.identity
	identity.History = start.History
	if err := identity.check(); err != nil {
		return err
	}
	for _, record := range rs.layers {
		l := newLayerOf(record)
		l.parent = r.layers[record.Parent]
		if err := r.addLayer(l); err != nil {
			return r.fail(err)
		}
	}
	r.arrange(rs)
	r.unfinished, r.newOperations = slices.Clone(start.Unfinished), slices.Clone(start.Unfinished)
	r.syncing, r.altered, r.reach = true, true, start.Mark.Position
	r.nextImage, r.nextSnapshot, r.nextLayer = start.NextImage, start.NextSnapshot, start.NextLayer
	r.mu.Lock()
	defer r.mu.Unlock()
	r.identity, r.applied, r.begun = identity, start.Mark, start.Mark.Position
	r.tags = slices.Clone(start.Tags)
	return nil
}

// check refuses a start that no source can have sent.
func (s *SyncStart) check() (*records, error) {
	rs := &records{images: slices.Clone(s.Images), snapshots: slices.Clone(s.Snapshots), layers: slices.Clone(s.Layers)}
	rs.next.image, rs.next.snapshot, rs.next.layer = s.NextImage, s.NextSnapshot, s.NextLayer
	if s.NextImage == 0 || s.NextSnapshot == 0 || s.NextLayer == 0 {
		return nil, corrupt("the source counts from zero")
	}
	slices.SortFunc(rs.layers, func(a, b LayerRecord) int { return cmp.Compare(a.ID, b.ID) })
	if err := rs.check(); err != nil {
		return nil, fmt.Errorf("the source: %w", err)
	}
	for i, t := range s.Tags {
		if _, mark := t.Encode(t.Mark.Time); !mark.Same(t.Mark) || i > 0 && t.Tag <= s.Tags[i-1].Tag {
			return nil, corrupt("tag %d of the source is damaged", t.Tag)
		}
	}
	for i, o := range s.Unfinished {
		if o.Intent == nil || o.Started > s.Mark.Position || i > 0 && o.Started <= s.Unfinished[i-1].Started {
			return nil, corrupt("operation %v of the source contradicts others", o.Started)
		}
	}
	return rs, nil
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
	l := r.layers[layer]
	if l == nil {
		return fault.New(fault.NotFound, "install %s: %w", layerObjectName(layer, index), ErrNotFound)
	}
	if index >= l.objects.count {
		return nil
	}
	blocks, hidden, err := c.check(r.applied.Position, l.objects.full)
	if err != nil {
		return fmt.Errorf("install %s: %w", layerObjectName(layer, index), err)
	}
	defer r.lockObject(l, index)()
	if err := l.install(index, c, blocks, hidden); err != nil {
		return r.fail(fmt.Errorf("install %s: %w", layerObjectName(layer, index), err))
	}
	r.reach = max(r.reach, c.AtMost)
	return nil
}

// check returns the copy's bitmaps.
func (c *ObjectCopy) check(start events.Position, full *bitmap) (blocks, hidden *bitmap, err error) {
	if c.AtLeast < start {
		return nil, nil, fault.New(fault.NotReady, "copy of %v, sync from %v: %w", c.AtLeast, start, ErrStale)
	}
	blocks, hidden = copiedBitmap(c.Blocks, full), copiedBitmap(c.Hidden, full)
	if blocks == nil || hidden == nil || c.Same != nil || blocks.meets(hidden) || blocks.count*BlockSize != len(c.Data) ||
		c.Version == 0 && blocks.count+hidden.count > 0 || max(c.Version, c.AtLeast) > c.AtMost {
		return nil, nil, corrupt("a copy with %d bytes contradicts itself", len(c.Data))
	}
	return blocks, hidden, nil
}

// copiedBitmap returns the bitmap that a copy carries, nil when it cannot be.
func copiedBitmap(words []uint64, full *bitmap) *bitmap {
	if words == nil {
		return &bitmap{words: make([]uint64, len(full.words))}
	}
	return checkedBitmap(slices.Clone(words), full)
}

// install writes a copy into the layer. The object's stripe is held.
func (l *layer) install(index uint64, c ObjectCopy, blocks, hidden *bitmap) error {
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
	l.replace(o, blocks, hidden)
	o.version = c.Version
	l.touch(o, index)
	return nil
}

// Synced reports whether a first sync has installed an object, and in which version:
// after [Open] the last checkpoint says which, so that a sync that was killed copies
// only the others. An object that the source never touched is not told apart from one
// that is still to come.
func (r *Replica) Synced(layer LayerID, index uint64) (version events.Position, ok bool) {
	r.applying.Lock()
	defer r.applying.Unlock()
	l := r.layers[layer]
	if l == nil {
		return 0, false
	}
	version = l.objects.version(index)
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
// the start needs it no longer from there on. logged is how far the source's journal
// reached then. A copy that claims to hold what lies behind that would be waited for for
// ever: it has the code [fault.Corrupt].
func (r *Replica) EndSync(reached, logged events.Position) error {
	if err := r.endSync(reached, logged); err != nil {
		return fmt.Errorf("end the first sync: %w", err)
	}
	if _, err := r.checkpoint(); err != nil {
		return fmt.Errorf("end the first sync: %w", err)
	}
	return nil
}

func (r *Replica) endSync(reached, logged events.Position) error {
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
	if max(r.reach, reached) > logged {
		return corrupt("copies up to %v of a source at %v whose journal ends at %v", r.reach, reached, logged)
	}
	r.syncing, r.altered, r.reach = false, true, max(r.reach, reached)
	return nil
}

// catchingUp reports whether objects may include entries behind what was applied.
func (r *Replica) catchingUp() bool { return max(r.applied.Position, r.passed) < r.reach }

// checkCaughtUp demands, when replay has reached all that was installed, that nothing
// is missing any more.
func (r *Replica) checkCaughtUp() error {
	if r.lost == 0 || r.catchingUp() {
		return nil
	}
	for _, l := range r.layers {
		var err error
		l.objects.touched(0, func(index uint64, o *object) bool {
			if o.flags&missing != 0 {
				err = &MismatchError{Position: r.applied.Position, Image: l.owner, Object: index, Want: o.version}
			}
			return err == nil
		})
		if err != nil {
			return r.fail(fmt.Errorf("the first sync did not bring an object: %w", err))
		}
	}
	return nil
}
