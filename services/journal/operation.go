package journal

import (
	"context"
	"errors"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
)

// operate logs one operation on the directory itself (an image created, resized,
// removed) and returns when it is applied. It has the directory to itself: changes wait,
// everything before it is applied, so decide sees the replica as the operation finds it.
func (w *writer) operate(ctx context.Context, decide func() (events.Entry, error)) error {
	if err := w.pause(); err != nil {
		return err
	}
	defer w.resume()
	if err := w.tail.Drain(ctx); err != nil {
		return err
	}
	entry, err := decide()
	if err != nil {
		return err
	}
	const size = entryOverhead + 512 // a name and a few numbers
	if err := w.tail.Room(ctx, size); err != nil {
		return err
	}
	return w.carryOut(entry, size)
}

// carryOut places an operation's entry and waits until it is applied. It does not end
// before that, whatever its client does: changes that were let in meanwhile would be
// checked against what the operation is about to change.
func (w *writer) carryOut(entry events.Entry, size int) error {
	done := make(chan error, 1)
	w.mu.Lock()
	if err := cmpErr(w.failure, w.begin(1)); err != nil {
		w.mu.Unlock()
		w.tail.Return(size)
		return err
	}
	w.place(entry, size, completion{func(err error) { done <- err }, true})
	w.mu.Unlock()
	err := <-done
	if errors.Is(err, bus.ErrFull) {
		return err // it was not logged
	}
	if err == nil {
		err = w.tail.Drain(context.Background()) // ends when applied, or with the tail
	}
	if err != nil { // it may be logged: nothing more is taken before it was replayed
		w.mu.Lock()
		w.failure = cmpErr(w.failure, err)
		w.changed.Broadcast()
		w.mu.Unlock()
	}
	return err
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// pause makes changes wait, and returns when none is on its way to the log and the
// caller has the directory to itself until it calls resume.
func (w *writer) pause() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused++
	w.wake() // what is held back goes out
	for (w.held || len(w.queue) > 0 || w.sealing) && w.failure == nil {
		w.changed.Wait()
	}
	if w.failure != nil {
		w.paused--
		w.changed.Broadcast()
		return w.failure
	}
	w.held = true
	return nil
}

func (w *writer) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused--
	w.held = false
	w.changed.Broadcast()
	w.wake()
}

// Bounds of an image.
const (
	imageBytesMax     = 1 << 50
	sectorBytes       = 512
	imagesInDirectory = 4096
)

func (w *writer) createImage(ctx context.Context, name string, size, objectSize uint64) (*replica.Image, error) {
	if objectSize == 0 {
		objectSize = replica.ObjectSizeDefault
	}
	if err := checkImage(name, size, objectSize); err != nil {
		return nil, err
	}
	err := w.operate(ctx, func() (events.Entry, error) {
		if _, exists := w.replica.Lookup(name); exists {
			return events.Entry{}, fault.New(fault.Exists, "image %q exists already", name)
		}
		if len(w.replica.Images()) >= imagesInDirectory {
			return events.Entry{}, fault.New(fault.NoSpace, "the directory holds %d images, the most it can", imagesInDirectory)
		}
		return events.Entry{
			Before: []events.Position{0},
			Event:  events.ImageCreated{Image: w.replica.NextImageID(), Name: name, Size: size, ObjectSize: objectSize},
		}, nil
	})
	if err != nil {
		return nil, err
	}
	return w.image(name)
}

func checkImage(name string, size, objectSize uint64) error {
	if err := events.CheckName(name); err != nil {
		return fault.New(fault.Usage, "image: %w", err)
	}
	if err := replica.CheckImage(size, objectSize); err != nil {
		return err
	}
	return checkSize(size)
}

func checkSize(size uint64) error {
	if size == 0 || size > imageBytesMax || size%sectorBytes != 0 {
		return fault.New(fault.Usage, "an image's size is a multiple of %d bytes up to 1 PiB, not %d", sectorBytes, size)
	}
	return nil
}

func (w *writer) image(name string) (*replica.Image, error) {
	image, ok := w.replica.Lookup(name)
	if !ok {
		return nil, fault.New(fault.NotFound, "there is no image %q", name)
	}
	return image, nil
}

func (w *writer) resizeImage(ctx context.Context, name string, size uint64, allowShrink bool) (*replica.Image, error) {
	if err := checkSize(size); err != nil {
		return nil, err
	}
	err := w.operate(ctx, func() (events.Entry, error) {
		image, err := w.image(name)
		if err != nil {
			return events.Entry{}, err
		}
		if size < image.Size() && !allowShrink {
			return events.Entry{}, fault.New(fault.Busy,
				"image %q would shrink from %d to %d bytes and lose what lies beyond; say --allow-shrink to do so",
				name, image.Size(), size)
		}
		return events.Entry{
			Before: []events.Position{image.Version()},
			Event:  events.ImageResized{Image: image.ID(), Size: size},
		}, nil
	})
	if err != nil {
		return nil, err
	}
	return w.image(name)
}

// removeImage removes an image that no client has open.
func (w *writer) removeImage(ctx context.Context, name string, opened func(events.ImageID) int) error {
	return w.operate(ctx, func() (events.Entry, error) {
		image, err := w.image(name)
		if err != nil {
			return events.Entry{}, err
		}
		if n := opened(image.ID()); n > 0 {
			return events.Entry{}, fault.New(fault.Busy, "image %q is open in %d NBD sessions", name, n)
		}
		return events.Entry{
			Before: []events.Position{image.Version()},
			Event:  events.ImageRemoved{Image: image.ID()},
		}, nil
	})
}
