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
	recordVersion = 2 // 1 knew one layer for each image
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
	commit       commitPoint
	nextImage    events.ImageID
	nextSnapshot events.SnapshotID
	nextLayer    LayerID
	nextFile     uint32
	reach        events.Position
	syncing      bool
	tags         uint64
	images       uint64
	snapshots    uint64
	layers       uint64
	operations   uint64
	objects      uint64
}

func appendState(b []byte, s state) []byte {
	b = appendMark(b, s.commit.mark)
	b = binary.AppendUvarint(b, s.commit.seq)
	for _, v := range []uint64{
		uint64(s.nextImage), uint64(s.nextSnapshot), uint64(s.nextLayer), uint64(s.nextFile), uint64(s.reach), number(s.syncing),
		s.tags, s.images, s.snapshots, s.layers, s.operations, s.objects,
	} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func (d *decoder) state() state {
	return state{
		commit:       commitPoint{d.mark(), d.uint()},
		nextImage:    events.ImageID(d.uint32()),
		nextSnapshot: events.SnapshotID(d.uint32()),
		nextLayer:    LayerID(d.uint32()),
		nextFile:     d.uint32(),
		reach:        events.Position(d.uint()),
		syncing:      d.bool(),
		tags:         d.uint(), images: d.uint(), snapshots: d.uint(), layers: d.uint(), operations: d.uint(), objects: d.uint(),
	}
}

func number(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

func (d *decoder) bool() bool {
	v := d.uint()
	d.failed = d.failed || v > 1
	return v == 1
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
	return appendBlocks(appendBlocks(b, o.blocks, full), o.hidden, full)
}

func appendBlocks(b []byte, blocks, full *bitmap) []byte {
	switch blocks {
	case nil:
		return binary.AppendUvarint(b, blocksNone)
	case full:
		return binary.AppendUvarint(b, blocksFull)
	}
	b = binary.AppendUvarint(b, blocksSome)
	for _, w := range blocks.words {
		b = binary.BigEndian.AppendUint64(b, w)
	}
	return b
}

// object reads an object's record into o.
func (d *decoder) object(o *object, t *table) {
	o.version = events.Position(d.uint())
	o.flags = objectFlags(d.uint())&missing | recorded
	o.blocks, o.hidden = d.blocks(t), d.blocks(t)
	d.failed = d.failed || o.blocks.meets(o.hidden)
}

func (d *decoder) blocks(t *table) *bitmap {
	switch d.uint() {
	case blocksNone:
		return nil
	case blocksFull:
		return t.full
	case blocksSome:
		if b := bitmapOf(d.bytes(uint64(len(t.full.words))*8), t.full); b != nil {
			return t.compact(b)
		}
	}
	d.failed = true
	return nil
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
