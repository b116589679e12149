package replica

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

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

// check compares a replica with the model as of its mark.
func (m *model) check(t testing.TB, r *Replica) {
	t.Helper()
	if err := m.differs(r); err != nil {
		t.Fatal(err)
	}
}

func (m *model) differs(r *Replica) error {
	infos := r.Images()
	if len(infos) != len(m.images) {
		return fmt.Errorf("%d images where the model has %d", len(infos), len(m.images))
	}
	if got := r.NextImageID(); got != m.next {
		return fmt.Errorf("the next image is %d where the model has %d", got, m.next)
	}
	if got := r.NextSnapshotID(); got != m.nextSnapshot {
		return fmt.Errorf("the next snapshot is %d where the model has %d", got, m.nextSnapshot)
	}
	if got := r.Unfinished(); !slices.EqualFunc(got, m.unfinished, func(a, b Operation) bool {
		return a.Started == b.Started && fmt.Sprint(a.Intent) == fmt.Sprint(b.Intent)
	}) {
		return fmt.Errorf("unfinished are %v where the model has %v", got, m.unfinished)
	}
	for _, info := range infos {
		want := m.images[info.ID]
		if want == nil {
			return fmt.Errorf("image %d is not in the model", info.ID)
		}
		if info.Name != want.names[0] || info.Size != want.size || info.Version != want.version || info.ObjectSize != want.objectSize ||
			!slices.Equal(info.Names, slices.Sorted(slices.Values(want.names))) || info.SnapshotLimit != want.limit ||
			info.Snapshot != want.parent || info.Snapshots != len(want.snapshots) || (len(info.Features) > 0) != want.readOnly {
			return fmt.Errorf("image %+v where the model has %q %d %v", info, want.names, want.size, want.version)
		}
		img, _ := r.Image(info.ID)
		for _, name := range want.names {
			if found, ok := r.Lookup(name); !ok || found != img {
				return fmt.Errorf("image %q is not found by name", name)
			}
		}
		if !maps.Equal(img.Metadata(), want.metadata) || img.ReadOnly() != want.readOnly {
			return fmt.Errorf("metadata %v, read-only %v where the model has %v, %v", img.Metadata(), img.ReadOnly(), want.metadata, want.readOnly)
		}
		if err := want.snapshotsDiffer(m, img); err != nil {
			return fmt.Errorf("image %d (objects of %d): %w", info.ID, want.objectSize, err)
		}
		if err := want.differs(img, info); err != nil {
			return fmt.Errorf("image %d (objects of %d): %w", info.ID, want.objectSize, err)
		}
	}
	return nil
}

func (m *modelImage) differs(img *Image, info ImageInfo) error {
	if err := m.contentDiffers(img); err != nil {
		return err
	}
	var listed []uint64
	for i := range img.Objects() {
		listed = append(listed, i)
	}
	var want []uint64
	for i := range objectCount(m.size, m.objectSize) {
		if got := img.ObjectVersion(i); got != m.versions[i] {
			return fmt.Errorf("object %d has version %v where the model has %v", i, got, m.versions[i])
		}
		if m.versions[i] != 0 {
			want = append(want, i)
		}
	}
	if !slices.Equal(listed, want) {
		return fmt.Errorf("objects %v are listed, not %v", listed, want)
	}
	extents, err := img.Extents(0, m.size)
	if err != nil {
		return err
	}
	used := uint64(0)
	for _, a := range m.allocated {
		if a {
			used += BlockSize
		}
	}
	if img.active.parent == nil && info.UsedBytes != used {
		return fmt.Errorf("%d bytes are used, not %d", info.UsedBytes, used)
	}
	return extentsDiffer(extents, m.size, m.allocated)
}

func extentsDiffer(extents []Extent, size uint64, allocated []bool) error {
	at := uint64(0)
	for _, e := range extents {
		for end := at + e.Length; at < end; at += min(BlockSize, end-at) {
			if e.Hole == allocated[at/BlockSize] || e.Zero != e.Hole {
				return fmt.Errorf("hole is %v at %d where the model has allocated %v", e.Hole, at, allocated[at/BlockSize])
			}
		}
	}
	if at != size {
		return fmt.Errorf("extents reach to %d of %d bytes", at, size)
	}
	return nil
}

// snapshotsDiffer compares all snapshots of an image.
func (m *modelImage) snapshotsDiffer(all *model, img *Image) error {
	infos := img.Snapshots()
	if len(infos) != len(m.snapshots) {
		return fmt.Errorf("%d snapshots where the model has %d", len(infos), len(m.snapshots))
	}
	for i, want := range m.snapshots {
		children := 0
		for _, other := range all.images {
			if other.parent == want.id {
				children++
			}
		}
		info := infos[i]
		if info.ID != want.id || info.Name != want.name || info.Size != want.size || info.Position != want.at ||
			info.Protected != want.protected || info.Group != want.group || info.Children != children || info.Created == 0 {
			return fmt.Errorf("snapshot %+v where the model has %d %q %d %v", info, want.id, want.name, want.size, want.at)
		}
		s, ok := img.Snapshot(want.name)
		if !ok {
			return fmt.Errorf("snapshot %q is not found", want.name)
		}
		if err := want.differs(s); err != nil {
			return fmt.Errorf("snapshot %q: %w", want.name, err)
		}
	}
	return nil
}

func (m *modelSnapshot) differs(s *Snapshot) error {
	got := make([]byte, m.size)
	if _, err := s.ReadAt(got, 0); err != nil {
		return err
	}
	if i := firstDifference(got, m.data[:m.size]); i >= 0 {
		return fmt.Errorf("byte %d (block %d) is %#x where the model has %#x", i, i/BlockSize, got[i], m.data[i])
	}
	extents, err := s.Extents(0, m.size)
	if err != nil {
		return err
	}
	return extentsDiffer(extents, m.size, m.allocated)
}

// contentDiffers compares data alone, of an image in which changes may be staged.
func (m *modelImage) contentDiffers(img *Image) error {
	got := make([]byte, m.size)
	if _, err := img.ReadAt(got, 0); err != nil {
		return err
	}
	if i := firstDifference(got, m.data[:m.size]); i >= 0 {
		return fmt.Errorf("byte %d (block %d) is %#x where the model has %#x", i, i/BlockSize, got[i], m.data[i])
	}
	extents, err := img.Extents(0, m.size)
	if err != nil {
		return err
	}
	at := uint64(0)
	for _, e := range extents {
		if e.Hole != e.Zero {
			return fmt.Errorf("extent %+v", e)
		}
		if zeroes := m.data[at : at+e.Length]; e.Zero && len(bytes.Trim(zeroes, "\x00")) > 0 {
			return fmt.Errorf("extent %+v at %d holds data", e, at)
		}
		at += e.Length
	}
	return nil
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}
