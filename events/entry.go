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
	Event  Event
}

// Event is a fact that a journal holds. The set is closed.
//
// The objects of Written, Discarded and Zeroed are those of the image's data that the
// range touches, by ascending index. Those of ImageCreated are the name alone (absent:
// version zero), of ImageResized and ImageRemoved the image alone.
type Event interface {
	kind() eventKind
	append(b []byte) []byte
}

// eventKind is the event's number on the wire. Numbers are only ever added.
type eventKind uint8

const (
	kindWritten      eventKind = 1
	kindDiscarded    eventKind = 2
	kindZeroed       eventKind = 3
	kindImageCreated eventKind = 16
	kindImageResized eventKind = 17
	kindImageRemoved eventKind = 18
)

// Written says that Data was written at Offset.
type Written struct {
	Image  ImageID
	Offset uint64 // bytes
	Data   []byte // 1 byte to [PayloadMax]
}

// Discarded says that a range was given back: it reads as zeroes and takes no space.
// NBD leaves the content after a TRIM open; here it is defined, so that replicas agree.
type Discarded struct {
	Image  ImageID
	Offset uint64 // bytes
	Length uint64 // bytes
}

// Zeroed says that a range reads as zeroes and keeps its space allocated.
type Zeroed struct {
	Image  ImageID
	Offset uint64 // bytes
	Length uint64 // bytes
}

// ImageCreated says that an image came to be, empty.
type ImageCreated struct {
	Image      ImageID
	Name       string
	Size       uint64 // bytes
	ObjectSize uint64 // bytes, a power of two
}

// ImageResized says that an image has a new size; what lies beyond it is gone.
type ImageResized struct {
	Image ImageID
	Size  uint64 // bytes
}

// ImageRemoved says that an image and its data are gone.
type ImageRemoved struct {
	Image ImageID
}

func (Written) kind() eventKind      { return kindWritten }
func (Discarded) kind() eventKind    { return kindDiscarded }
func (Zeroed) kind() eventKind       { return kindZeroed }
func (ImageCreated) kind() eventKind { return kindImageCreated }
func (ImageResized) kind() eventKind { return kindImageResized }
func (ImageRemoved) kind() eventKind { return kindImageRemoved }

func (e Written) append(b []byte) []byte {
	b = appendUint(b, uint64(e.Image))
	b = appendUint(b, e.Offset)
	return appendBin(b, e.Data)
}

func (e Discarded) append(b []byte) []byte { return appendRange(b, e.Image, e.Offset, e.Length) }
func (e Zeroed) append(b []byte) []byte    { return appendRange(b, e.Image, e.Offset, e.Length) }

func appendRange(b []byte, image ImageID, offset, length uint64) []byte {
	b = appendUint(b, uint64(image))
	b = appendUint(b, offset)
	return appendUint(b, length)
}

func (e ImageCreated) append(b []byte) []byte {
	b = appendUint(b, uint64(e.Image))
	b = appendString(b, e.Name)
	b = appendUint(b, e.Size)
	return appendUint(b, e.ObjectSize)
}

func (e ImageResized) append(b []byte) []byte {
	return appendUint(appendUint(b, uint64(e.Image)), e.Size)
}

func (e ImageRemoved) append(b []byte) []byte { return appendUint(b, uint64(e.Image)) }

// An entry is [kind, version, [before…], fields…].
const entryFixedFields = 3

// entryBytesMin is the size of the shortest entry: the array's header and four fields
// of one byte.
const entryBytesMin = 5

// fieldsOf says how many fields the format gives to a kind; a later format may add
// some at the end, which are skipped.
func fieldsOf(k eventKind) int {
	switch k {
	case kindWritten, kindDiscarded, kindZeroed:
		return 3
	case kindImageCreated:
		return 4
	case kindImageResized:
		return 2
	case kindImageRemoved:
		return 1
	}
	return 0
}

func appendEntry(b []byte, e Entry) []byte {
	k := e.Event.kind()
	b = appendArray(b, entryFixedFields+fieldsOf(k))
	b = appendUint(b, uint64(k))
	b = appendUint(b, uint64(e.Version))
	b = appendArray(b, len(e.Before))
	for _, v := range e.Before {
		b = appendUint(b, uint64(v))
	}
	return e.Event.append(b)
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
	known := fieldsOf(k)
	if r.err != nil {
		return e
	}
	if known == 0 {
		// A kind that a newer writer knows: applying the rest without it would make
		// this copy differ from the others for ever.
		r.err = fmt.Errorf("entry kind %d: %w", k, ErrFormat)
		return e
	}
	if fields < entryFixedFields+known {
		r.fail("an entry has too few fields")
		return e
	}
	e.Event = r.event(k)
	for range fields - entryFixedFields - known {
		r.skip()
	}
	return e
}

func (r *reader) event(k eventKind) Event {
	image := ImageID(r.limited(1<<32-1, "an image's number"))
	switch k {
	case kindWritten:
		return Written{image, r.uint(), r.bin()}
	case kindDiscarded:
		return Discarded{image, r.uint(), r.uint()}
	case kindZeroed:
		return Zeroed{image, r.uint(), r.uint()}
	case kindImageCreated:
		return ImageCreated{image, r.string(), r.uint(), r.uint()}
	case kindImageResized:
		return ImageResized{image, r.uint()}
	default:
		return ImageRemoved{image}
	}
}

// Range returns the image and the bytes that an event changes; ok is false for events
// that do not change a range of data.
func Range(e Event) (image ImageID, offset, length uint64, ok bool) {
	switch e := e.(type) {
	case Written:
		return e.Image, e.Offset, uint64(len(e.Data)), true
	case Discarded:
		return e.Image, e.Offset, e.Length, true
	case Zeroed:
		return e.Image, e.Offset, e.Length, true
	}
	return 0, 0, 0, false
}
