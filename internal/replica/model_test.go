package replica

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"tidemark/events"
)

// model is a directory as a dumb program would keep it: whole images in memory.
type model struct {
	images map[events.ImageID]*modelImage
	next   events.ImageID
}

type modelImage struct {
	name       string
	size       uint64
	objectSize uint64
	version    events.Position
	data       []byte                     // objects in full
	allocated  []bool                     // by block
	versions   map[uint64]events.Position // by object
}

func (m *model) clone() *model {
	out := &model{images: make(map[events.ImageID]*modelImage), next: m.next}
	for id, img := range m.images {
		c := *img
		c.data, c.allocated, c.versions = slices.Clone(img.data), slices.Clone(img.allocated), maps.Clone(img.versions)
		out.images[id] = &c
	}
	return out
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
	case events.ImageResized:
		return []events.Position{m.images[e.Image].version}
	case events.ImageRemoved:
		return []events.Position{m.images[e.Image].version}
	}
	return []events.Position{0}
}

// do carries an event out at a position.
func (m *model) do(e events.Event, at events.Position) {
	if c, ok := changeOf(e); ok {
		m.images[c.image].change(c, at)
		return
	}
	switch e := e.(type) {
	case events.ImageCreated:
		img := &modelImage{name: e.Name, objectSize: e.ObjectSize, version: at, versions: make(map[uint64]events.Position)}
		img.fit(e.Size)
		m.images[e.Image] = img
		m.next = e.Image + 1
	case events.ImageResized:
		m.images[e.Image].resize(e.Size, at)
	case events.ImageRemoved:
		delete(m.images, e.Image)
	}
}

func (img *modelImage) change(c change, at events.Position) {
	end := c.offset + c.length
	copy(img.data[c.offset:end], c.data)
	if c.kind != writing {
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

// journal makes a history and keeps the model beside it, as of each of its messages.
type journal struct {
	intN     func(n int) int
	mark     events.Mark
	messages []events.JournalMessage
	states   []*model // after each message
	now      *model
}

func newJournal(intN func(n int) int) *journal {
	return &journal{intN: intN, now: &model{images: make(map[events.ImageID]*modelImage), next: 1}}
}

func (j *journal) note(m events.JournalMessage) {
	j.mark = m.Ends()
	j.messages = append(j.messages, m)
	j.states = append(j.states, j.now.clone())
}

// claim takes the directory over under the next tag.
func (j *journal) claim(site uint16) {
	tag, err := j.mark.Position.Tag().Next(site)
	if err != nil {
		panic(err)
	}
	t := events.TagClaimed{Tag: tag, Reason: events.TagOpened, Site: "s", Node: "n", Incarnation: "i", Predecessor: j.mark}
	msg, _ := t.Encode(events.Instant(len(j.messages) + 1))
	out, err := events.DecodeTagClaimed(msg)
	if err != nil {
		panic(err)
	}
	j.note(out)
}

// batch appends a message of these events.
func (j *journal) batch(evs ...events.Event) *events.Batch {
	b := events.NewBatchBuilder(nil)
	position := j.mark.Position
	for _, e := range evs {
		position++
		b.Append(events.Entry{Before: j.now.before(e), Event: e})
		j.now.do(e, position)
	}
	return j.seal(b)
}

func (j *journal) seal(b *events.BatchBuilder) *events.Batch {
	msg, _ := b.Seal(j.mark.Position.Tag(), j.mark, 0, events.Instant(len(j.messages)+1))
	out, err := events.DecodeBatch(msg)
	if err != nil {
		panic(err)
	}
	j.note(out)
	return out
}

// random appends a message: a batch of up to n random events, sometimes a tag.
func (j *journal) random(n int) {
	if j.mark.Position == 0 || j.intN(12) == 0 {
		j.claim(1)
		return
	}
	b := events.NewBatchBuilder(nil)
	position := j.mark.Position
	for range 1 + j.intN(n) {
		e := j.event()
		position++
		b.Append(events.Entry{Before: j.now.before(e), Event: e})
		j.now.do(e, position)
	}
	j.seal(b)
}

// event returns a random event that the directory can have next.
func (j *journal) event() events.Event {
	ids := slices.Sorted(maps.Keys(j.now.images))
	roll := j.intN(40)
	if len(ids) == 0 || roll == 0 && len(ids) < 4 {
		id := j.now.next
		return events.ImageCreated{
			Image: id, Name: fmt.Sprintf("disk%d", id), Size: j.size(), ObjectSize: BlockSize << j.intN(4),
		}
	}
	id := ids[j.intN(len(ids))]
	img := j.now.images[id]
	switch {
	case roll == 1:
		return events.ImageRemoved{Image: id}
	case roll <= 4:
		return events.ImageResized{Image: id, Size: j.size()}
	}
	offset, length := j.span(img.size)
	switch {
	case roll <= 10:
		return events.Discarded{Image: id, Offset: offset, Length: length}
	case roll <= 14:
		return events.Zeroed{Image: id, Offset: offset, Length: length}
	}
	length = min(length, 20<<10)
	data := make([]byte, length)
	seed := byte(1 + j.intN(255))
	for i := range data {
		data[i] = seed + byte(i/512)
	}
	return events.Written{Image: id, Offset: offset, Data: data}
}

func (j *journal) size() uint64 { return uint64(1+j.intN(160)) * 512 }

func (j *journal) span(size uint64) (offset, length uint64) {
	unit := uint64(512)
	if j.intN(2) == 0 && size >= BlockSize {
		unit = BlockSize
	}
	n := int(size / unit)
	from := j.intN(n)
	longest := n - from
	if j.intN(3) > 0 {
		longest = min(longest, 6)
	}
	return uint64(from) * unit, uint64(1+j.intN(longest)) * unit
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
	for _, info := range infos {
		want := m.images[info.ID]
		if want == nil {
			return fmt.Errorf("image %d is not in the model", info.ID)
		}
		if info.Name != want.name || info.Size != want.size || info.Version != want.version || info.ObjectSize != want.objectSize {
			return fmt.Errorf("image %+v where the model has %q %d %v", info, want.name, want.size, want.version)
		}
		img, ok := r.Lookup(info.Name)
		if !ok {
			return fmt.Errorf("image %q is not found by name", info.Name)
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
	at, used := uint64(0), uint64(0)
	for _, e := range extents {
		for end := at + e.Length; at < end; at += min(BlockSize, end-at) {
			if e.Hole == m.allocated[at/BlockSize] {
				return fmt.Errorf("hole is %v at %d where the model has allocated %v", e.Hole, at, m.allocated[at/BlockSize])
			}
		}
	}
	for _, a := range m.allocated {
		if a {
			used += BlockSize
		}
	}
	if at != m.size || info.UsedBytes != used {
		return fmt.Errorf("extents reach to %d of %d bytes, %d bytes are used, not %d", at, m.size, info.UsedBytes, used)
	}
	return nil
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
