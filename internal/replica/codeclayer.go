package replica

import (
	"encoding/binary"
	"maps"
	"slices"

	"tidemark/events"
)

// layerRecord is a layer as the metadata hold it.
type layerRecord struct {
	LayerRecord
	number uint32 // of its file
}

// appendImage writes an image. Its metadata's keys are sorted.
func appendImage(b []byte, record ImageRecord) []byte {
	b = binary.AppendUvarint(b, uint64(record.ID))
	b = appendString(b, record.Name)
	b = binary.AppendUvarint(b, record.Size)
	b = binary.AppendUvarint(b, record.ObjectSize)
	b = binary.AppendUvarint(b, uint64(record.Version))
	b = binary.AppendUvarint(b, uint64(record.Layer))
	b = binary.AppendUvarint(b, uint64(record.SnapshotLimit))
	b = binary.AppendUvarint(b, uint64(record.Parent))
	b = appendStrings(b, record.Links)
	b = appendStrings(b, record.Features)
	b = binary.AppendUvarint(b, uint64(len(record.Metadata)))
	for _, key := range slices.Sorted(maps.Keys(record.Metadata)) {
		b = appendString(appendString(b, key), record.Metadata[key])
	}
	return b
}

func (d *decoder) image() ImageRecord {
	record := ImageRecord{
		ID: events.ImageID(d.uint32()), Name: d.string(), Size: d.uint(), ObjectSize: d.uint(),
		Version: events.Position(d.uint()), Layer: LayerID(d.uint32()), SnapshotLimit: d.uint32(),
		Parent: events.SnapshotID(d.uint32()), Links: d.strings(), Features: d.strings(),
	}
	for range d.count() {
		if record.Metadata == nil {
			record.Metadata = make(map[string]string)
		}
		key := d.string()
		record.Metadata[key] = d.string()
	}
	return record
}

func appendStrings(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendString(b, s)
	}
	return b
}

func (d *decoder) strings() []string {
	var list []string
	for range d.count() {
		list = append(list, d.string())
	}
	return list
}

// count reads how many elements follow, each of which takes a byte at least.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.failed, d.b = true, nil
		return 0
	}
	return int(n)
}

func appendSnapshot(b []byte, record SnapshotRecord) []byte {
	for _, v := range []uint64{
		uint64(record.ID), uint64(record.Image), record.Size, uint64(record.Position), uint64(record.Created),
		number(record.Protected), number(record.Group), uint64(record.Layer),
	} {
		b = binary.AppendUvarint(b, v)
	}
	return appendString(b, record.Name)
}

func (d *decoder) snapshot() SnapshotRecord {
	return SnapshotRecord{
		ID: events.SnapshotID(d.uint32()), Image: events.ImageID(d.uint32()), Size: d.uint(),
		Position: events.Position(d.uint()), Created: events.Instant(d.uint()),
		Protected: d.bool(), Group: d.bool(), Layer: LayerID(d.uint32()), Name: d.string(),
	}
}

func appendLayer(b []byte, record layerRecord) []byte {
	for _, v := range []uint64{
		uint64(record.ID), uint64(record.number), uint64(record.Parent), uint64(record.Owner), record.ObjectSize,
		record.Size, record.Overlap, uint64(record.Floor), record.FloorEnd,
	} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func (d *decoder) layer() (record layerRecord) {
	record.ID, record.number = LayerID(d.uint32()), d.uint32()
	record.Parent, record.Owner, record.ObjectSize = LayerID(d.uint32()), events.ImageID(d.uint32()), d.uint()
	record.Size, record.Overlap = d.uint(), d.uint()
	record.Floor, record.FloorEnd = events.Position(d.uint()), d.uint()
	return record
}

// appendOperation writes an unfinished operation: its start, as a journal holds it.
func appendOperation(b []byte, o Operation) []byte {
	return append(b, events.EncodeEntry(events.Entry{Event: events.OperationStarted{Intent: o.Intent}})...)
}

func (d *decoder) operation(started events.Position) (Operation, error) {
	// Nothing may alias the mapped file.
	e, err := events.DecodeEntry(slices.Clone(d.bytes(uint64(len(d.b)))))
	if err != nil {
		return Operation{}, corrupt("operation %v in the metadata: %w", started, err)
	}
	start, ok := e.Event.(events.OperationStarted)
	if !ok {
		return Operation{}, corrupt("operation %v in the metadata is none", started)
	}
	return Operation{started, start.Intent}, nil
}
