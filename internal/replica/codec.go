package replica

import (
	"encoding/binary"
	"hash/crc32"

	"tidemark/events"
)

// A record of the metadata is
//
//	offset  bytes  field
//	     0      1  record version
//	     1      …  payload: numbers as varints, strings with their length before them
//	  end-4      4  CRC32C over bucket, key, and everything before it; big endian
//
// so that a record that is damaged, or lies under another's key, is noticed.
const (
	recordVersion = 1
	recordCRCSize = 4
	stringMax     = 4096 // bytes; no string in a record is longer
)

func recordCRC(bucket, key, body []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // made once by the library
	crc := crc32.Update(0, table, bucket)
	crc = crc32.Update(crc, table, key)
	return crc32.Update(crc, table, body)
}

// sealRecord appends the checksum to a record that began at start of b.
func sealRecord(b []byte, start int, bucket, key []byte) []byte {
	crc := recordCRC(bucket, key, b[start:])
	return binary.BigEndian.AppendUint32(b, crc)
}

// openRecord checks a record and returns a decoder of its payload.
func openRecord(bucket, key, value []byte) (*decoder, error) {
	if len(value) < 1+recordCRCSize {
		return nil, corrupt("record %x of %s in the metadata is too short", key, bucket)
	}
	body, sum := value[:len(value)-recordCRCSize], binary.BigEndian.Uint32(value[len(value)-recordCRCSize:])
	if recordCRC(bucket, key, body) != sum {
		return nil, corrupt("record %x of %s in the metadata has a wrong checksum", key, bucket)
	}
	if body[0] != recordVersion {
		return nil, corrupt("record %x of %s in the metadata has version %d, this program knows %d",
			key, bucket, body[0], recordVersion)
	}
	return &decoder{b: body[1:]}, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decoder reads a payload. After its first failure everything it returns is zero.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.failed, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uint()
	if v > 1<<32-1 {
		d.failed = true
		return 0
	}
	return uint32(v)
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.failed, d.b = true, nil
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) string() string {
	n := d.uint()
	if n > stringMax {
		d.failed = true
		return ""
	}
	return string(d.bytes(n))
}

// finish reports whether the payload was read to its end without failure.
func (d *decoder) finish() bool { return !d.failed && len(d.b) == 0 }

func appendMark(b []byte, m events.Mark) []byte {
	b = binary.AppendUvarint(b, uint64(m.Position))
	b = binary.AppendUvarint(b, uint64(m.Chain))
	b = binary.AppendUvarint(b, m.Entries)
	b = binary.AppendUvarint(b, m.Bytes)
	return binary.AppendUvarint(b, uint64(m.Time))
}

func (d *decoder) mark() events.Mark {
	return events.Mark{
		Position: events.Position(d.uint()), Chain: events.Chain(d.uint()),
		Entries: d.uint(), Bytes: d.uint(), Time: events.Instant(d.uint()),
	}
}

func appendIdentity(b []byte, id Identity) []byte {
	b = appendString(b, string(id.Directory))
	b = appendString(b, id.Name.Pool)
	b = appendString(b, id.Name.Path)
	return appendString(b, id.History)
}

func (d *decoder) identity() Identity {
	return Identity{
		Directory: events.DirectoryID(d.string()),
		Name:      events.DirectoryName{Pool: d.string(), Path: d.string()},
		History:   d.string(),
	}
}

// state is the one record that a checkpoint always writes. Its counts are those of the
// other records: one that vanished is noticed.
type state struct {
	commit    commitPoint
	nextImage events.ImageID
	nextLayer uint32
	reach     events.Position
	syncing   bool
	tags      uint64
	images    uint64
	objects   uint64
}

func appendState(b []byte, s state) []byte {
	b = appendMark(b, s.commit.mark)
	b = binary.AppendUvarint(b, s.commit.seq)
	b = binary.AppendUvarint(b, uint64(s.nextImage))
	b = binary.AppendUvarint(b, uint64(s.nextLayer))
	b = binary.AppendUvarint(b, uint64(s.reach))
	syncing := uint64(0)
	if s.syncing {
		syncing = 1
	}
	b = binary.AppendUvarint(b, syncing)
	b = binary.AppendUvarint(b, s.tags)
	b = binary.AppendUvarint(b, s.images)
	return binary.AppendUvarint(b, s.objects)
}

func (d *decoder) state() state {
	return state{
		commit:    commitPoint{d.mark(), d.uint()},
		nextImage: events.ImageID(d.uint32()),
		nextLayer: d.uint32(),
		reach:     events.Position(d.uint()),
		syncing:   d.uint() == 1,
		tags:      d.uint(), images: d.uint(), objects: d.uint(),
	}
}

func appendImage(b []byte, record ImageRecord, layer uint32) []byte {
	b = binary.AppendUvarint(b, uint64(record.ID))
	b = appendString(b, record.Name)
	b = binary.AppendUvarint(b, record.Size)
	b = binary.AppendUvarint(b, record.ObjectSize)
	b = binary.AppendUvarint(b, uint64(record.Version))
	return binary.AppendUvarint(b, uint64(layer))
}

func (d *decoder) image() (record ImageRecord, layer uint32) {
	record = ImageRecord{
		ID: events.ImageID(d.uint32()), Name: d.string(), Size: d.uint(), ObjectSize: d.uint(),
		Version: events.Position(d.uint()),
	}
	return record, d.uint32()
}

// How an object's blocks are recorded.
const (
	blocksNone = 0
	blocksFull = 1
	blocksSome = 2 // a word of eight bytes for every 64 blocks follows
)

func appendObject(b []byte, o *object, full *bitmap) []byte {
	b = binary.AppendUvarint(b, uint64(o.version))
	b = binary.AppendUvarint(b, uint64(o.flags&missing))
	switch o.blocks {
	case nil:
		return binary.AppendUvarint(b, blocksNone)
	case full:
		return binary.AppendUvarint(b, blocksFull)
	}
	b = binary.AppendUvarint(b, blocksSome)
	for _, w := range o.blocks.words {
		b = binary.BigEndian.AppendUint64(b, w)
	}
	return b
}

// object reads an object's record into o.
func (d *decoder) object(o *object, t *table) {
	o.version = events.Position(d.uint())
	o.flags = objectFlags(d.uint())&missing | recorded
	switch d.uint() {
	case blocksNone:
	case blocksFull:
		o.blocks = t.full
	case blocksSome:
		if b := bitmapOf(d.bytes(uint64(len(t.full.words))*8), t.full); b != nil {
			t.adopt(o, b)
			return
		}
		d.failed = true
	default:
		d.failed = true
	}
}

// bitmapOf reads words of eight bytes; nil when blocks are set that full does not have.
func bitmapOf(raw []byte, full *bitmap) *bitmap {
	if len(raw) != len(full.words)*8 {
		return nil
	}
	words := make([]uint64, len(full.words))
	for i := range words {
		words[i] = binary.BigEndian.Uint64(raw[i*8:])
	}
	return checkedBitmap(words, full)
}
