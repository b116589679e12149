package journal

import (
	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
)

// writing divides a write into entries, larger ones than the settings ask for where it
// would take more of them than one change may have.
func (w *writer) writing(image *replica.Image, offset uint64, data []byte, safe bool) []change {
	most := max(w.settings.PayloadBytes, (len(data)+events.PartsMax-1)/events.PartsMax)
	parts := make([]change, 0, (len(data)+most-1)/most)
	for len(data) > 0 {
		n := min(len(data), most)
		parts = append(parts, writeOf(image, offset, data[:n], safe))
		data, offset = data[n:], offset+uint64(n)
	}
	return parts
}

// writeOf is a write of at most the payload of one entry.
func writeOf(image *replica.Image, offset uint64, data []byte, safe bool) change {
	return change{
		image:  image,
		event:  events.Written{Image: image.ID(), Offset: offset, Data: data},
		offset: offset, length: uint64(len(data)), bytes: len(data), safe: safe,
	}
}

// zeroing divides a range into entries, each of no more objects than one can name. event
// makes the event of each.
func zeroing(image *replica.Image, offset, length uint64, safe bool, event func(offset, length uint64) events.Event) []change {
	step := events.ObjectsPerEntryMax * image.ObjectSize()
	parts := make([]change, 0, (offset%step+length+step-1)/step)
	for length > 0 {
		n := min(length, step-offset%step)
		parts = append(parts, change{image: image, event: event(offset, n), offset: offset, length: n, safe: safe})
		offset, length = offset+n, length-n
	}
	return parts
}

// filling divides a fill into entries, each of whole patterns.
func filling(image *replica.Image, offset, length uint64, pattern []byte) []change {
	unit := uint64(len(pattern))
	step := max(unit, min(fillStepBytes, (events.ObjectsPerEntryMax-1)*image.ObjectSize())/unit*unit)
	parts := make([]change, 0, (length+step-1)/step)
	for length > 0 {
		n := min(length, step)
		parts = append(parts, change{
			image: image, event: events.PatternWritten{Image: image.ID(), Offset: offset, Length: n, Pattern: pattern},
			offset: offset, length: n, bytes: len(pattern),
		})
		offset, length = offset+n, length-n
	}
	return parts
}

// changes returns what makes an event of another journal true of an image here. A range
// is cut at the image's end; nothing is left of one beyond it. The event is checked like
// anything from outside.
func (w *writer) changes(image *replica.Image, event events.Event) ([]change, error) {
	_, offset, length, _ := events.Range(event)
	size := image.Size()
	if length == 0 || offset+length < offset {
		return nil, fault.New(fault.Corrupt, "%d bytes at %d are no range", length, offset)
	}
	if offset >= size {
		return nil, nil
	}
	length = min(length, size-offset)
	switch e := event.(type) {
	case events.Written:
		return w.writing(image, offset, e.Data[:length], false), nil
	case events.Discarded:
		return zeroing(image, offset, length, false, func(offset, n uint64) events.Event {
			return events.Discarded{Image: image.ID(), Offset: offset, Length: n}
		}), nil
	case events.Zeroed:
		return zeroing(image, offset, length, false, func(offset, n uint64) events.Event {
			return events.Zeroed{Image: image.ID(), Offset: offset, Length: n}
		}), nil
	case events.PatternWritten:
		unit := uint64(len(e.Pattern))
		if unit == 0 || unit > uint64(w.settings.PayloadBytes) || e.Length%unit != 0 || length > fillBytesMax {
			return nil, fault.New(fault.Corrupt, "a pattern of %d bytes does not fill %d", unit, e.Length)
		}
		whole := length / unit * unit
		parts := filling(image, offset, whole, e.Pattern)
		return append(parts, w.writing(image, offset+whole, e.Pattern[:length-whole], false)...), nil
	case events.CompareWritten:
		if len(e.Compare) != len(e.Data) || len(e.Data) > events.ComparedMax {
			return nil, fault.New(fault.Corrupt, "a comparison of %d bytes writes %d", len(e.Compare), len(e.Data))
		}
		return []change{comparing(image, offset, e.Compare[:length], e.Data[:length])}, nil
	}
	return nil, fault.New(fault.Usage, "an import holds changes and facts, not %T", event)
}

// comparing is a write that was found to be allowed.
func comparing(image *replica.Image, offset uint64, compare, data []byte) change {
	return change{
		image:  image,
		event:  events.CompareWritten{Image: image.ID(), Offset: offset, Compare: compare, Data: data},
		offset: offset, length: uint64(len(data)), bytes: 2 * len(data),
	}
}
