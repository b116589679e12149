package holder

import (
	"context"
	"sync"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/nbd"
	"tidemark/internal/replica"
)

// Block sizes that NBD clients are told.
const (
	blockMin       = 1
	blockPreferred = 4 << 10
	blockMax       = 32 << 20
)

// Content is what an export shows: a [*replica.Image] or a [*replica.Snapshot].
type Content interface {
	Size() uint64
	ReadAt(p []byte, off int64) (int, error)
	Extents(offset, length uint64) ([]replica.Extent, error)
}

// View is what every session on an export has: its description and its content.
type View struct {
	Name     string // of the export
	Content  Content
	ReadOnly bool
	Gone     <-chan struct{} // closed when the export ends
}

// Info implements [nbd.Device].
func (v View) Info() nbd.Info {
	return nbd.Info{
		Name: v.Name, Description: "Tidemark image " + v.Name, Size: v.Content.Size(), ReadOnly: v.ReadOnly,
		BlockMin: blockMin, BlockPreferred: blockPreferred, BlockMax: blockMax,
	}
}

// ReadAt implements [nbd.Device].
func (v View) ReadAt(_ context.Context, p []byte, off uint64) error {
	_, err := v.Content.ReadAt(p, int64(off))
	return err
}

// Extents implements [nbd.Device].
func (v View) Extents(_ context.Context, off, length uint64) ([]nbd.Extent, error) {
	found, err := v.Content.Extents(off, length)
	if err != nil {
		return nil, err
	}
	extents := make([]nbd.Extent, len(found))
	for i, e := range found {
		extents[i] = nbd.Extent{Length: e.Length, Hole: e.Hole, Zero: e.Zero}
	}
	return extents, nil
}

// Ended implements [nbd.Device].
func (v View) Ended() <-chan struct{} { return v.Gone }

// ReadOnlyExport is a session on what cannot be written here.
type ReadOnlyExport struct {
	View
	close func()
}

// OpenReadOnly opens an image or a snapshot of a copy for reading. The export ends when
// gone is closed or the snapshot is removed; closed is called when the session ends.
func OpenReadOnly(r *replica.Replica, name events.ImageName, gone <-chan struct{}, closed func()) (ReadOnlyExport, error) {
	image, ok := r.Lookup(name.Image)
	if !ok {
		return ReadOnlyExport{}, fault.New(fault.NotFound, "there is no image %q", name)
	}
	e := ReadOnlyExport{View: View{Name: name.String(), Content: image, ReadOnly: true, Gone: gone}, close: closed}
	if name.Snapshot == "" {
		return e, nil
	}
	snapshot, ok := image.Snapshot(name.Snapshot)
	if !ok {
		return ReadOnlyExport{}, fault.New(fault.NotFound, "there is no snapshot %q", name)
	}
	e.Content = snapshot
	either, stop := first(gone, snapshot.Removed())
	e.Gone, e.close = either, func() { stop(); closed() }
	return e, nil
}

// first returns a channel that is closed when the first of two is, until stop is called,
// which waits for the goroutine in between.
func first(a, b <-chan struct{}) (either <-chan struct{}, stop func()) {
	closed, stopped := make(chan struct{}), make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-a:
			close(closed)
		case <-b:
			close(closed)
		case <-stopped:
		}
	})
	return closed, func() {
		close(stopped)
		watching.Wait()
	}
}

var errReadOnly = fault.New(fault.ReadOnly, "the export is read-only here")

// Write implements [nbd.Device].
func (ReadOnlyExport) Write(_ context.Context, _ []byte, _ uint64, _ bool, done func(error)) {
	done(errReadOnly)
}

// Zero implements [nbd.Device].
func (ReadOnlyExport) Zero(_ context.Context, _ nbd.ZeroRequest, done func(error)) {
	done(errReadOnly)
}

// Flush implements [nbd.Device]: a session that wrote nothing has nothing to flush.
func (ReadOnlyExport) Flush(_ context.Context, done func(error)) { done(nil) }

// Close implements [nbd.Device].
func (e ReadOnlyExport) Close(context.Context) error {
	e.close()
	return nil
}
