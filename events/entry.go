package events

import "fmt"

// ImageID numbers an image within its directory, from 1. It is never used again.
type ImageID uint32

// Entry is one change of a directory as its journal holds it: what happened, and the
// version that every object it touched had before.
type Entry struct {
	// Version is what the touched objects get. It is zero for an entry that is where
	// it was first executed, whose version is its own position; an entry replayed by
	// recovery keeps the position of its first execution here.
	Version Position
	// Before holds the version of each object that the event touches, in the order
	// that [Event] documents, as it was before the event. An entry applies only where
	// all of them match (version-based recovery).
	Before []Position
	// Part says that the entry is one of several which make one change; zero for an
	// entry that is a change of its own.
	Part  Part
	Event Event
}

// Part is an entry's place among consecutive entries of one tag that make one change:
// a write or a discard larger than an entry. Either all of them are applied or none. A
// run that breaks off (its writer died, or the log was full), so that anything but
// the next part follows, is void: it changes nothing.
type Part struct {
	Index uint32 // from 0
	Count uint32 // 2 to [PartsMax]; 0: the entry is no part
}

// Last reports whether the entry completes its change. An entry that is no part does.
func (p Part) Last() bool { return p.Index+1 >= p.Count }

// Continues reports whether a part is the one that follows another.
func (p Part) Continues(before Part) bool {
	return p.Count != 0 && p.Count == before.Count && p.Index == before.Index+1
}

// Event is a fact that a journal holds. The set is closed; io.go has those that change
// data, operation.go those about images and snapshots, each with the versions that its
// entry names.
type Event interface {
	kind() eventKind
	append(b []byte) []byte
}

// eventKind is the event's number on the wire. Numbers are only ever added.
type eventKind uint8

const (
	kindWritten              eventKind = 1
	kindDiscarded            eventKind = 2
	kindZeroed               eventKind = 3
	kindPatternWritten       eventKind = 4
	kindCompareWritten       eventKind = 5
	kindFlushed              eventKind = 6
	kindImageCreated         eventKind = 16
	kindImageResized         eventKind = 17
	kindImageRemoved         eventKind = 18
	kindImageCloned          eventKind = 19
	kindImageRenamed         eventKind = 20
	kindImageLinked          eventKind = 21
	kindImageUnlinked        eventKind = 22
	kindImageFlattened       eventKind = 23
	kindFeatureChanged       eventKind = 24
	kindMetadataSet          eventKind = 25
	kindMetadataRemoved      eventKind = 26
	kindSnapshotsCreated     eventKind = 32
	kindSnapshotRemoved      eventKind = 33
	kindSnapshotRenamed      eventKind = 34
	kindSnapshotProtected    eventKind = 35
	kindSnapshotUnprotected  eventKind = 36
	kindSnapshotRolledBack   eventKind = 37
	kindSnapshotLimitChanged eventKind = 38
	kindOperationStarted     eventKind = 48
	kindOperationFinished    eventKind = 49
)

// An entry is [kind, version, [before…], fields…], and behind the fields of its kind
// the part's index and count: left out where the entry is no part, unless more follows.
const (
	entryFixedFields = 3
	partFields       = 2
)

// entryBytesMin is the size of the shortest entry: the array's header and three fields
// of one byte.
const entryBytesMin = 4

// fieldsOf says how many fields the format gives to a kind, and whether it knows it; a
// later format may add some at the end, which are skipped.
func fieldsOf(k eventKind) (fields int, known bool) {
	switch k {
	case kindFlushed:
		return 0, true
	case kindImageRemoved, kindImageFlattened, kindOperationStarted:
		return 1, true
	case kindImageResized, kindImageLinked, kindImageUnlinked, kindMetadataRemoved, kindSnapshotRemoved,
		kindSnapshotProtected, kindSnapshotUnprotected, kindSnapshotRolledBack, kindSnapshotLimitChanged,
		kindOperationFinished:
		return 2, true
	case kindWritten, kindDiscarded, kindZeroed, kindImageRenamed, kindFeatureChanged, kindMetadataSet,
		kindSnapshotRenamed:
		return 3, true
	case kindPatternWritten, kindCompareWritten, kindImageCreated, kindImageCloned, kindSnapshotsCreated:
		return 4, true
	}
	return 0, false
}

func appendEntry(b []byte, e Entry) []byte {
	k := e.Event.kind()
	fields, _ := fieldsOf(k)
	if e.Part.Count != 0 {
		fields += partFields
	}
	b = appendArray(b, entryFixedFields+fields)
	b = appendUint(b, uint64(k))
	b = appendUint(b, uint64(e.Version))
	b = appendArray(b, len(e.Before))
	for _, v := range e.Before {
		b = appendUint(b, uint64(v))
	}
	b = e.Event.append(b)
	if e.Part.Count != 0 {
		b = appendUint(b, uint64(e.Part.Index))
		b = appendUint(b, uint64(e.Part.Count))
	}
	return b
}

// entry reads one entry; versions are appended to arena, so that a batch costs one
// allocation for all of them.
func (r *reader) entry(arena *[]Position) Entry {
	fields := r.array()
	k := eventKind(r.limited(255, "an entry's kind"))
	var e Entry
	e.Version = Position(r.uint())
	n := r.array()
	start := len(*arena)
	for range n {
		*arena = append(*arena, Position(r.uint()))
	}
	e.Before = (*arena)[start:len(*arena):len(*arena)]
	wanted, known := fieldsOf(k)
	if r.err != nil {
		return e
	}
	if !known {
		// A kind that a newer writer knows: applying the rest without it would make
		// this copy differ from the others for ever.
		r.err = fmt.Errorf("entry kind %d: %w", k, ErrFormat)
		return e
	}
	rest := fields - entryFixedFields - wanted
	if rest < 0 {
		r.fail("an entry has too few fields")
		return e
	}
	e.Event = r.event(k)
	if rest >= partFields {
		e.Part = r.part()
		rest -= partFields
	}
	for range rest {
		r.skip()
	}
	return e
}

func (r *reader) part() Part {
	p := Part{uint32(r.limited(PartsMax-1, "a part's index")), uint32(r.limited(PartsMax, "a part's count"))}
	if r.err == nil && p != (Part{}) && (p.Count < 2 || p.Index >= p.Count) {
		r.fail("a part contradicts itself")
	}
	return p
}

// event reads the fields of an event of a known kind.
func (r *reader) event(k eventKind) Event {
	if e := r.ioEvent(k); e != nil {
		return e
	}
	return r.operationEvent(k)
}

// EncodeEntry returns an entry by itself, outside of a batch: as an export holds it.
func EncodeEntry(e Entry) []byte { return appendEntry(nil, e) }

// DecodeEntry reads what [EncodeEntry] wrote. The result aliases b. It returns
// [ErrCorrupt] for bytes that do not check out, [ErrFormat] for a kind that is not known.
func DecodeEntry(b []byte) (Entry, error) {
	r := &reader{b: b}
	var arena []Position
	e := r.entry(&arena)
	return e, r.finish()
}
