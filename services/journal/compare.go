package journal

import (
	"bytes"
	"context"
	"sync/atomic"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
)

const (
	// fillBytesMax bounds what one request fills, in bytes: it is one change, and what
	// follows it waits until it is applied.
	fillBytesMax = 1 << 30
	// fillStepBytes is how much one entry fills at most, in bytes.
	fillStepBytes = 16 << 20
)

// fillImage fills a range with copies of a pattern: a run of entries, logged when it
// returns.
func (l *life) fillImage(ctx context.Context, r api.ImageFillRequest) error {
	if len(r.Pattern) == 0 || len(r.Pattern) > l.writer.settings.PayloadBytes {
		return fault.New(fault.Usage, "a pattern has 1 to %d bytes, not %d", l.writer.settings.PayloadBytes, len(r.Pattern))
	}
	unit := uint64(len(r.Pattern))
	if r.Length == 0 || r.Length > fillBytesMax || r.Length%unit != 0 {
		return fault.New(fault.Usage, "a fill takes a multiple of the pattern's %d bytes, up to %d, not %d", unit, fillBytesMax, r.Length)
	}
	image, err := l.settledImage(ctx, r.Image, r.Offset, r.Length)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	l.writer.submitRun(ctx, filling(image, r.Offset, r.Length, r.Pattern), func(err error) { done <- err })
	return <-done
}

// settledImage returns the image of a name, if it has the range.
func (l *life) settledImage(ctx context.Context, name string, offset, length uint64) (*replica.Image, error) {
	if err := l.operations.settled(ctx); err != nil {
		return nil, err
	}
	image, err := l.image(name)
	if err != nil {
		return nil, err
	}
	if size := image.Size(); offset > size || length > size-offset {
		return nil, fault.New(fault.Usage, "%d bytes at %d do not lie in image %q of %d bytes", length, offset, name, size)
	}
	return image, nil
}

// compareImage writes data where it finds what the request expects, and is logged when it
// returns.
func (l *life) compareImage(ctx context.Context, r api.ImageCompareRequest) error {
	most := min(events.ComparedMax, l.writer.settings.PayloadBytes/2) // it carries both
	if len(r.Data) == 0 || len(r.Data) > most || len(r.Compare) != len(r.Data) {
		return fault.New(fault.Usage, "compare and data have the same 1 to %d bytes, not %d and %d", most, len(r.Compare), len(r.Data))
	}
	image, err := l.settledImage(ctx, r.Image, r.Offset, uint64(len(r.Data)))
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	l.writer.compareWrite(ctx, image, r, func(err error) { done <- err })
	return <-done
}

// compareWrite has the directory to itself from the comparison until the write has its
// place, so that no other comes between. done is called once when it is logged, or not.
func (w *writer) compareWrite(ctx context.Context, image *replica.Image, r api.ImageCompareRequest, done func(error)) {
	c := comparing(image, r.Offset, r.Compare, r.Data)
	size := c.size()
	if err := w.tail.Room(ctx, size); err != nil {
		done(err)
		return
	}
	err := w.pause() // everything before is logged, and so shown to readers
	if err == nil {
		if err = compare(image, r.Offset, r.Compare); err == nil {
			err = w.enqueueRun([]change{c}, size, new(atomic.Bool), done)
		}
		w.resume()
	}
	if err != nil {
		w.tail.Return(size)
		done(err)
	}
}

func compare(image *replica.Image, offset uint64, want []byte) error {
	found := make([]byte, len(want))
	if _, err := image.ReadAt(found, int64(offset)); err != nil {
		return err
	}
	if !bytes.Equal(found, want) {
		return fault.New(fault.VersionMismatch, "the image holds something else at %d", offset)
	}
	return nil
}
