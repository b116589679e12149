package replica

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"tidemark/events"
)

// journal makes a history and keeps the model beside it, as of each of its messages.
type journal struct {
	intN     func(n int) int
	mark     events.Mark
	messages []events.JournalMessage
	states   []*model // after each message
	now      *model
}

func newJournal(intN func(n int) int) *journal {
	return &journal{intN: intN, now: newModel()}
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
		for _, e := range j.entriesOf(j.event()) {
			position++
			e.Before = j.now.before(e.Event)
			b.Append(e)
			if e.Part != broken {
				j.now.do(e.Event, position)
			}
		}
	}
	j.seal(b)
}

// broken is the first part of a change whose others never come.
var broken = events.Part{Index: 0, Count: 3}

// entriesOf returns the entries that an event is logged as: sometimes in parts, sometimes
// behind a part that is void.
func (j *journal) entriesOf(e events.Event) []events.Entry {
	w, ok := e.(events.Written)
	if !ok || len(w.Data) < 3 || j.intN(4) > 0 {
		return []events.Entry{{Event: e}}
	}
	half := len(w.Data) / 2
	first := events.Written{Image: w.Image, Offset: w.Offset, Data: w.Data[:half]}
	second := events.Written{Image: w.Image, Offset: w.Offset + uint64(half), Data: w.Data[half:]}
	if j.intN(2) == 0 {
		return []events.Entry{{Event: first, Part: broken}, {Event: e}}
	}
	return []events.Entry{{Event: first, Part: events.Part{Index: 0, Count: 2}}, {Event: second, Part: events.Part{Index: 1, Count: 2}}}
}

// event returns a random event that the directory can have next.
func (j *journal) event() events.Event {
	if len(j.now.images) == 0 {
		return j.created()
	}
	switch roll := j.intN(40); {
	case roll < 2 && len(j.now.unfinished) > 0:
		return j.finished()
	case roll < 4:
		return events.OperationStarted{Intent: j.fact()}
	case roll < 13:
		return j.fact()
	case roll == 13:
		return events.Flushed{}
	}
	return j.io()
}

func (j *journal) created() events.Event {
	id := j.now.next
	return events.ImageCreated{Image: id, Name: fmt.Sprintf("disk%d", id), Size: j.size(), ObjectSize: BlockSize << j.intN(4)}
}

// finished ends an operation, as done if it still can be.
func (j *journal) finished() events.Event {
	o := j.now.unfinished[j.intN(len(j.now.unfinished))]
	if !j.now.allows(o.Intent) {
		return events.OperationFinished{Started: o.Started, Failure: "busy"}
	}
	return events.OperationFinished{Started: o.Started}
}

// fact returns a random fact that could be made true now.
func (j *journal) fact() events.Event {
	for {
		if e := j.anyFact(); j.now.allows(e) {
			return e
		}
	}
}

func (j *journal) image() events.ImageID {
	ids := slices.Sorted(maps.Keys(j.now.images))
	return ids[j.intN(len(ids))]
}

// anyFact returns a random fact, which may be impossible.
func (j *journal) anyFact() events.Event {
	if len(j.now.images) == 0 {
		return j.created()
	}
	id := j.image()
	img := j.now.images[id]
	name := fmt.Sprintf("name%d", j.intN(40))
	switch j.intN(24) {
	case 0:
		return j.created()
	case 1:
		return events.ImageRemoved{Image: id}
	case 2, 3, 4:
		return events.ImageResized{Image: id, Size: j.size()}
	case 5, 6, 7:
		return events.SnapshotsCreated{Name: name, First: j.now.nextSnapshot, Images: []events.ImageID{id}}
	case 8:
		return events.SnapshotsCreated{
			Name: name, Group: true, First: j.now.nextSnapshot + events.SnapshotID(j.intN(3)),
			Images: slices.Sorted(maps.Keys(j.now.images)),
		}
	case 9:
		return events.ImageRenamed{Image: id, From: img.names[j.intN(len(img.names))], To: name}
	case 10:
		return events.ImageLinked{Image: id, Name: name}
	case 11:
		return events.ImageUnlinked{Image: id, Name: img.names[j.intN(len(img.names))]}
	case 12:
		return events.FeatureChanged{Image: id, Feature: events.FeatureReadOnly, Enabled: j.intN(2) == 0}
	case 13:
		return events.MetadataSet{Image: id, Key: name, Value: strings.Repeat("v", j.intN(5))}
	case 14:
		return events.MetadataRemoved{Image: id, Key: name}
	case 15:
		return events.SnapshotLimitChanged{Image: id, Limit: uint32(len(img.snapshots) + j.intN(9))}
	case 16:
		return events.ImageFlattened{Image: id}
	}
	return j.snapshotFact(id, name)
}

func (j *journal) snapshotFact(id events.ImageID, name string) events.Event {
	snapshots := j.now.images[id].snapshots
	if len(snapshots) == 0 {
		return events.SnapshotsCreated{Name: name, First: j.now.nextSnapshot, Images: []events.ImageID{id}}
	}
	s := snapshots[j.intN(len(snapshots))].id
	switch j.intN(7) {
	case 0:
		return events.SnapshotRenamed{Image: id, Snapshot: s, Name: name}
	case 1:
		return events.SnapshotProtected{Image: id, Snapshot: s}
	case 2:
		return events.SnapshotUnprotected{Image: id, Snapshot: s}
	case 3:
		return events.SnapshotRolledBack{Image: id, Snapshot: s}
	case 4:
		return events.ImageCloned{Image: j.now.next, Name: name, Parent: id, Snapshot: s}
	}
	return events.SnapshotRemoved{Image: id, Snapshot: s}
}

// io returns a random event that changes data.
func (j *journal) io() events.Event {
	id := j.image()
	img := j.now.images[id]
	offset, length := j.span(img.size)
	roll := j.intN(36)
	switch {
	case roll < 6:
		return events.Discarded{Image: id, Offset: offset, Length: length}
	case roll < 10:
		return events.Zeroed{Image: id, Offset: offset, Length: length}
	}
	seed := byte(1 + j.intN(255))
	if roll < 13 {
		pattern := make([]byte, 64<<j.intN(4))
		for i := range pattern {
			pattern[i] = seed + byte(i)
		}
		return events.PatternWritten{Image: id, Offset: offset, Length: length, Pattern: pattern}
	}
	length = min(length, 20<<10)
	data := make([]byte, length)
	for i := range data {
		data[i] = seed + byte(i/512)
	}
	if roll < 15 {
		return events.CompareWritten{Image: id, Offset: offset, Compare: img.data[offset:][:length], Data: data}
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

// allows reports whether a fact could be made true.
func (m *model) allows(e events.Event) bool {
	free := func(name string) bool {
		for _, img := range m.images {
			if slices.Contains(img.names, name) {
				return false
			}
		}
		return true
	}
	switch e := e.(type) {
	case events.ImageCreated:
		return len(m.images) < 5 && e.Image >= m.next && free(e.Name)
	case events.ImageCloned:
		s := m.find(e.Parent, e.Snapshot)
		return len(m.images) < 5 && e.Image >= m.next && free(e.Name) && s != nil && s.protected
	case events.SnapshotsCreated:
		for _, id := range e.Images {
			img := m.images[id]
			if img == nil || e.First < m.nextSnapshot || uint32(len(img.snapshots)) >= min(img.limit, 6) || img.named(e.Name) {
				return false
			}
		}
		return true
	}
	id, _ := imageOfFact(e)
	img := m.images[id]
	if img == nil {
		return false
	}
	_, snapshot, _ := snapshotOfFact(e)
	s := img.snapshot(snapshot)
	switch e := e.(type) {
	case events.ImageResized:
		return !img.readOnly
	case events.ImageRemoved:
		return len(img.snapshots) == 0
	case events.ImageRenamed:
		return slices.Contains(img.names, e.From) && free(e.To)
	case events.ImageLinked:
		return free(e.Name)
	case events.ImageUnlinked:
		return slices.Contains(img.names, e.Name) && len(img.names) > 1
	case events.ImageFlattened:
		return img.parent != 0
	case events.MetadataRemoved:
		_, ok := img.metadata[e.Key]
		return ok
	case events.SnapshotLimitChanged:
		return int(e.Limit) >= len(img.snapshots)
	case events.SnapshotRemoved:
		return s != nil && !s.protected
	case events.SnapshotRenamed:
		return s != nil && !img.named(e.Name)
	case events.SnapshotProtected:
		return s != nil && !s.protected
	case events.SnapshotUnprotected:
		return s != nil && s.protected && !m.cloned(snapshot)
	case events.SnapshotRolledBack:
		return s != nil && !img.readOnly
	}
	return true
}

func (m *model) find(image events.ImageID, snapshot events.SnapshotID) *modelSnapshot {
	if img := m.images[image]; img != nil {
		return img.snapshot(snapshot)
	}
	return nil
}

func (m *model) cloned(snapshot events.SnapshotID) bool {
	for _, img := range m.images {
		if img.parent == snapshot {
			return true
		}
	}
	return false
}

func (img *modelImage) named(snapshot string) bool {
	return slices.ContainsFunc(img.snapshots, func(s *modelSnapshot) bool { return s.name == snapshot })
}
