package events

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// A journal message holds consecutive entries of one tag:
//
//	offset  bytes  field
//	     0      1  array of 11
//	     1      1  format version
//	     2      6  "batch"
//	     8      5  tag
//	    13      5  number of the first entry
//	    18      9  chain before the first entry
//	    27      9  safe position of the writer when it published
//	    36      9  time of publication, Unix nanoseconds
//	    45      9  entries in the whole history, these included
//	    54      9  bytes of entries in the whole history, these included
//	    63      5  array of entries: their count
//	    68      …  entries
//	   end-9    9  chain after the last entry
//
// The chain after is the xxHash64 of everything before it in the message; the chain
// before is inside, so it covers the whole history.
const (
	batchFields     = 11
	batchHeaderSize = 68
	chainSize       = 9
	batchKind       = "batch"
	tagKind         = "tag"
)

// Bounds of a journal message.
const (
	// BatchBytesMax is where a batch is closed: measured on JetStream, larger messages
	// cost more than they save.
	BatchBytesMax = 512 << 10
	// MessageBytesMax is the largest message that the bus carries: a batch that stood
	// just below BatchBytesMax may still take one entry of full size.
	MessageBytesMax = 1 << 20
	// PayloadMax is the most data that one Written carries; a longer write becomes
	// several entries.
	PayloadMax = 256 << 10
	// ComparedMax is the most data that one CompareWritten carries: it holds two of them.
	ComparedMax = PayloadMax / 2
	// PartsMax bounds the entries that make one change.
	PartsMax = 4096
	// ObjectsPerEntryMax bounds the objects that one entry touches, and with them the
	// versions that it carries.
	ObjectsPerEntryMax = 4096
)

// Batch is one journal message: entries First, First+1, … of Tag. A decoded batch
// aliases the message that it was decoded from.
type Batch struct {
	Tag     Tag
	First   uint32
	Before  Chain    // chain of the history up to the entry before First
	Safe    Position // the writer's safe position when it published
	Entries []Entry
	End     Mark // the last entry, with the chain and totals after it
}

// Position returns the position of the i-th entry.
func (b *Batch) Position(i int) Position { return At(b.Tag, b.First+uint32(i)) }

// Open reports whether the batch ends inside a change of several entries, whose other
// parts follow in the next message, if they ever do.
func (b *Batch) Open() bool { return !b.Entries[len(b.Entries)-1].Part.Last() }

// BatchBuilder gathers entries into a message.
type BatchBuilder struct {
	buf   []byte
	count uint32
	bytes uint64
}

// NewBatchBuilder starts an empty batch in buf's storage, which may be nil.
func NewBatchBuilder(buf []byte) *BatchBuilder {
	if cap(buf) < batchHeaderSize {
		buf = make([]byte, 0, 64<<10)
	}
	return &BatchBuilder{buf: buf[:batchHeaderSize]}
}

// Append copies an entry into the batch.
func (b *BatchBuilder) Append(e Entry) {
	before := len(b.buf)
	b.buf = appendEntry(b.buf, e)
	b.count++
	b.bytes += uint64(len(b.buf) - before)
}

// Count returns the number of entries.
func (b *BatchBuilder) Count() int { return int(b.count) }

// Size returns the message's size so far, in bytes.
func (b *BatchBuilder) Size() int { return len(b.buf) + chainSize }

// Seal writes the header over the reserved room and the chain at the end. previous is
// the mark of the entry before; safe and now travel along. It
// returns the message and its end. The builder must not be used again.
func (b *BatchBuilder) Seal(tag Tag, previous Mark, safe Position, now Instant) ([]byte, Mark) {
	first := uint32(1)
	if previous.Position.Tag() == tag {
		first = previous.Position.Entry() + 1
	}
	end := Mark{
		Position: At(tag, first+b.count-1),
		Entries:  previous.Entries + uint64(b.count),
		Bytes:    previous.Bytes + b.bytes,
		Time:     now,
	}
	h := appendArray(b.buf[:0], batchFields)
	h = append(h, FormatVersion)
	h = appendString(h, batchKind)
	h = appendUint32(h, uint32(tag))
	h = appendUint32(h, first)
	h = appendUint64(h, uint64(previous.Chain))
	h = appendUint64(h, uint64(safe))
	h = appendUint64(h, uint64(now))
	h = appendUint64(h, end.Entries)
	h = appendUint64(h, end.Bytes)
	h = append(h, mpArray32)
	binary.BigEndian.AppendUint32(h, b.count)
	end.Chain = Chain(xxhash.Sum64(b.buf))
	b.buf = appendUint64(b.buf, uint64(end.Chain))
	return b.buf, end
}

// DecodeBatch reads a journal message of entries. The result aliases msg.
// It returns [ErrCorrupt] for bytes that do not check out, [ErrFormat] for a newer
// format.
func DecodeBatch(msg []byte) (*Batch, error) {
	r, chain, err := openJournalMessage(msg, batchKind, batchFields)
	if err != nil {
		return nil, err
	}
	return r.batch(chain)
}

// DecodeSealed is [DecodeBatch] for a message that this process has just sealed and kept
// to itself: its checksum is not computed again.
func DecodeSealed(msg []byte) (*Batch, error) {
	r, chain, err := parseJournalMessage(msg, batchKind, batchFields)
	if err != nil {
		return nil, err
	}
	return r.batch(chain)
}

// batch reads what follows the kind of a batch.
func (r *reader) batch(chain Chain) (*Batch, error) {
	b := &Batch{
		Tag:    Tag(r.limited(1<<32-1, "the tag")),
		First:  uint32(r.limited(MaxEntry, "the entry number")),
		Before: Chain(r.uint()),
		Safe:   Position(r.uint()),
	}
	b.End = Mark{Chain: chain, Time: Instant(r.uint()), Entries: r.uint(), Bytes: r.uint()}
	n := r.array()
	if r.err == nil && (n == 0 || b.First == 0 || uint64(b.First)+uint64(n)-1 > MaxEntry) {
		r.fail("its entries are numbered wrongly")
	}
	if r.err == nil {
		b.End.Position = At(b.Tag, b.First+uint32(n)-1)
		room := min(n, len(r.b)/entryBytesMin) // no more can follow
		b.Entries = make([]Entry, 0, room)
		arena := make([]Position, 0, room)
		for range n {
			b.Entries = append(b.Entries, r.entry(&arena))
			if r.err != nil {
				break
			}
		}
	}
	if err := r.finish(); err != nil {
		return nil, err
	}
	return b, nil
}

// finish demands that a message was read to its end (the chain was cut off before).
func (r *reader) finish() error {
	if r.err == nil && len(r.b) != 0 {
		r.fail("bytes follow the last field")
	}
	return r.err
}

// openJournalMessage checks version, kind and chain of a journal message, and returns
// a reader that stands behind the kind and ends before the chain.
func openJournalMessage(msg []byte, kind string, fields int) (*reader, Chain, error) {
	r, chain, err := parseJournalMessage(msg, kind, fields)
	if err == nil && Chain(xxhash.Sum64(msg[:len(msg)-chainSize])) != chain {
		return nil, 0, corrupt("its checksum is wrong")
	}
	return r, chain, err
}

// parseJournalMessage is openJournalMessage without a look at what the chain covers.
func parseJournalMessage(msg []byte, kind string, fields int) (*reader, Chain, error) {
	if len(msg) < chainSize {
		return nil, 0, corrupt("it is too short")
	}
	body, tail := msg[:len(msg)-chainSize], &reader{b: msg[len(msg)-chainSize:]}
	chain := Chain(tail.uint())
	r := &reader{b: body}
	n := r.array()
	version := r.uint()
	found := r.string()
	switch {
	case r.err != nil || tail.err != nil:
		return nil, 0, corrupt("it is not a journal message")
	case found != kind:
		return nil, 0, corrupt(fmt.Sprintf("it is a %.20q where a %q was expected", found, kind))
	case version != FormatVersion:
		return nil, 0, fmt.Errorf("format %d: %w", version, ErrFormat)
	case n != fields:
		return nil, 0, corrupt("it has the wrong number of fields")
	}
	return r, chain, nil
}
