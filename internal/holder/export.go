package holder

import (
	"context"

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

// View is what every session on an image has: its description and its content.
type View struct {
	Name     string // of the export
	Image    *replica.Image
	ReadOnly bool
	Gone     <-chan struct{} // closed when the export ends
}

// Info implements [nbd.Device].
func (v View) Info() nbd.Info {
	return nbd.Info{
		Name: v.Name, Description: "Tidemark image " + v.Name, Size: v.Image.Size(), ReadOnly: v.ReadOnly,
		BlockMin: blockMin, BlockPreferred: blockPreferred, BlockMax: blockMax,
	}
}

// ReadAt implements [nbd.Device].
func (v View) ReadAt(_ context.Context, p []byte, off uint64) error {
	_, err := v.Image.ReadAt(p, int64(off))
	return err
}

// Extents implements [nbd.Device].
func (v View) Extents(_ context.Context, off, length uint64) ([]nbd.Extent, error) {
	found, err := v.Image.Extents(off, length)
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

// ReadOnlyExport is a session on an image that cannot be written here.
type ReadOnlyExport struct{ View }

var errReadOnly = fault.New(fault.ReadOnly, "the image is not primary at this site")

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
func (ReadOnlyExport) Close(context.Context) error { return nil }
