package replica

import (
	"bytes"
	"maps"
	"slices"

	"tidemark/events"
)

// model is a directory as a dumb program would keep it: whole images, and whole copies of
// them as snapshots, in memory.
type model struct {
	images       map[events.ImageID]*modelImage
	unfinished   []Operation
	next         events.ImageID
	nextSnapshot events.SnapshotID
}

type modelImage struct {
	names      []string
	readOnly   bool
	metadata   map[string]string
	limit      uint32
	snapshots  []*modelSnapshot
	parent     events.SnapshotID
	size       uint64
	objectSize uint64
	version    events.Position
	data       []byte                     // objects in full
	allocated  []bool                     // by block
	versions   map[uint64]events.Position // by object
}

// modelSnapshot is never changed.
type modelSnapshot struct {
	id        events.SnapshotID
	name      string
	size      uint64
	at        events.Position
	group     bool
	protected bool
	data      []byte
	allocated []bool
}

func newModel() *model {
	return &model{images: make(map[events.ImageID]*modelImage), next: 1, nextSnapshot: 1}
}

func (m *model) snapshots() (n int) {
	for _, img := range m.images {
		n += len(img.snapshots)
	}
	return n
}

func (m *model) clone() *model {
	out := *m
	out.images, out.unfinished = make(map[events.ImageID]*modelImage), slices.Clone(m.unfinished)
	for id, img := range m.images {
		c := *img
		c.data, c.allocated, c.versions = slices.Clone(img.data), slices.Clone(img.allocated), maps.Clone(img.versions)
		c.names, c.snapshots, c.metadata = slices.Clone(img.names), slices.Clone(img.snapshots), maps.Clone(img.metadata)
		out.images[id] = &c
	}
	return &out
}

func (img *modelImage) fit(size uint64) {
	n := objectCount(size, img.objectSize) * img.objectSize
	img.size = size
	img.data = append(img.data, make([]byte, max(n, uint64(len(img.data)))-uint64(len(img.data)))...)[:n]
	blocks := n / BlockSize
	img.allocated = append(img.allocated, make([]bool, max(blocks, uint64(len(img.allocated)))-uint64(len(img.allocated)))...)[:blocks]
}

// before returns what an entry of the event carries.
func (m *model) before(e events.Event) []events.Position {
	if c, ok := changeOf(e); ok {
		img := m.images[c.image]
		first, count := Objects(c.offset, c.length, img.objectSize)
		var out []events.Position
		for i := first; i < first+count; i++ {
			out = append(out, img.versions[i])
		}
		return out
	}
	switch e := e.(type) {
	case events.Flushed, events.OperationStarted:
		return nil
	case events.OperationFinished:
		if o, ok := m.operation(e.Started); ok && e.Failure == "" {
			return m.before(o.Intent)
		}
		return nil
	case events.SnapshotsCreated:
		var out []events.Position
		for _, id := range e.Images {
			out = append(out, m.images[id].version)
		}
		return out
	}
	if id, ok := imageOfFact(e); ok && m.images[id] != nil {
		return []events.Position{m.images[id].version}
	}
	return []events.Position{0}
}

func (m *model) operation(started events.Position) (Operation, bool) {
	for _, o := range m.unfinished {
		if o.Started == started {
			return o, true
		}
	}
	return Operation{}, false
}

// do carries an event out at a position.
func (m *model) do(e events.Event, at events.Position) {
	if c, ok := changeOf(e); ok {
		m.images[c.image].change(c, at)
		return
	}
	switch e := e.(type) {
	case events.OperationStarted:
		m.unfinished = append(m.unfinished, Operation{at, e.Intent})
	case events.OperationFinished:
		if o, ok := m.operation(e.Started); ok {
			if e.Failure == "" {
				m.do(o.Intent, at)
			}
			m.unfinished = slices.DeleteFunc(slices.Clone(m.unfinished), func(o Operation) bool { return o.Started == e.Started })
		}
	case events.ImageCreated:
		img := &modelImage{names: []string{e.Name}, objectSize: e.ObjectSize, version: at, limit: events.SnapshotsMax}
		img.versions = make(map[uint64]events.Position)
		img.fit(e.Size)
		m.images[e.Image] = img
		m.next = e.Image + 1
	case events.ImageCloned:
		parent := m.images[e.Parent]
		img := &modelImage{names: []string{e.Name}, objectSize: parent.objectSize, limit: events.SnapshotsMax, parent: e.Snapshot}
		img.restore(parent.snapshot(e.Snapshot), at)
		m.images[e.Image] = img
		m.next = e.Image + 1
	case events.ImageRemoved:
		delete(m.images, e.Image)
	case events.SnapshotsCreated:
		for i, id := range e.Images {
			img := m.images[id]
			img.version = at
			img.snapshots = append(img.snapshots, &modelSnapshot{
				id: e.First + events.SnapshotID(i), name: e.Name, size: img.size, at: at, group: e.Group,
				data: slices.Clone(img.data), allocated: slices.Clone(img.allocated),
			})
			m.nextSnapshot = e.First + events.SnapshotID(i) + 1
		}
	default:
		if id, ok := imageOfFact(e); ok {
			m.images[id].do(e, at)
		}
	}
}

// do carries out a fact about one image.
func (img *modelImage) do(e events.Event, at events.Position) {
	img.version = at
	_, snapshot, _ := snapshotOfFact(e)
	img.snapshots = slices.Clone(img.snapshots)
	which := slices.IndexFunc(img.snapshots, func(s *modelSnapshot) bool { return s.id == snapshot })
	change := func(f func(s *modelSnapshot)) {
		s := *img.snapshots[which]
		f(&s)
		img.snapshots[which] = &s
	}
	switch e := e.(type) {
	case events.ImageResized:
		img.resize(e.Size, at)
	case events.ImageRenamed:
		img.names[slices.Index(img.names, e.From)] = e.To
	case events.ImageLinked:
		img.names = append(img.names, e.Name)
	case events.ImageUnlinked:
		img.names = slices.DeleteFunc(img.names, func(n string) bool { return n == e.Name })
	case events.ImageFlattened:
		img.parent = 0
	case events.FeatureChanged:
		img.readOnly = e.Enabled
	case events.MetadataSet:
		if img.metadata == nil {
			img.metadata = make(map[string]string)
		}
		img.metadata[e.Key] = e.Value
	case events.MetadataRemoved:
		delete(img.metadata, e.Key)
	case events.SnapshotLimitChanged:
		img.limit = e.Limit
	case events.SnapshotRemoved:
		img.snapshots = slices.Delete(img.snapshots, which, which+1)
	case events.SnapshotRenamed:
		change(func(s *modelSnapshot) { s.name = e.Name })
	case events.SnapshotProtected:
		change(func(s *modelSnapshot) { s.protected = true })
	case events.SnapshotUnprotected:
		change(func(s *modelSnapshot) { s.protected = false })
	case events.SnapshotRolledBack:
		img.restore(img.snapshots[which], at)
	}
}

func (img *modelImage) snapshot(id events.SnapshotID) *modelSnapshot {
	for _, s := range img.snapshots {
		if s.id == id {
			return s
		}
	}
	return nil
}

// restore makes an image what a snapshot holds: all objects are changed.
func (img *modelImage) restore(s *modelSnapshot, at events.Position) {
	img.version, img.size = at, s.size
	img.data, img.allocated = slices.Clone(s.data), slices.Clone(s.allocated)
	img.versions = make(map[uint64]events.Position)
	for i := range objectCount(s.size, img.objectSize) {
		img.versions[i] = at
	}
}

func (img *modelImage) change(c change, at events.Position) {
	end := c.offset + c.length
	switch c.kind {
	case writing:
		copy(img.data[c.offset:end], c.data)
	case repeating:
		copy(img.data[c.offset:end], bytes.Repeat(c.data, int(c.length)/len(c.data)))
	default:
		clear(img.data[c.offset:end])
	}
	for b := c.offset / BlockSize; b*BlockSize < end; b++ {
		whole := b*BlockSize >= c.offset && (b+1)*BlockSize <= end || b*BlockSize >= c.offset && end == img.size
		if c.kind != discarding {
			img.allocated[b] = true
		} else if whole {
			img.allocated[b] = false
		}
	}
	first, count := Objects(c.offset, c.length, img.objectSize)
	for i := first; i < first+count; i++ {
		img.versions[i] = at
	}
}

func (img *modelImage) resize(size uint64, at events.Position) {
	if size < img.size {
		clear(img.data[size:])
		for b := (size + BlockSize - 1) / BlockSize; b < uint64(len(img.allocated)); b++ {
			img.allocated[b] = false
		}
		for i := range img.versions {
			if i*img.objectSize >= size {
				delete(img.versions, i)
			}
		}
		if size%img.objectSize != 0 {
			img.versions[size/img.objectSize] = at
		}
	}
	img.fit(size)
	img.version = at
}
