package journal

import (
	"context"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/nbd"
	"tidemark/internal/replica"
)

// Exports returns the images of the directories that this node owns.
func (s *Service) Exports() nbd.Exports { return holder.Exports[*directory]{Held: s.held} }

// DirectoryName implements [holder.Held].
func (d *directory) DirectoryName() events.DirectoryName { return d.name }

// Served implements [holder.Held].
func (d *directory) Served() (*replica.Replica, error) {
	l, err := d.current()
	if err != nil {
		return nil, err
	}
	return l.replica, nil
}

// Kept implements [holder.Held].
func (d *directory) Kept() *holder.Conflicts {
	l, err := d.current()
	if err != nil {
		return nil
	}
	return l.conflicts
}

// Export implements [holder.Held].
func (d *directory) Export(ctx context.Context, name events.ImageName) (nbd.Device, error) {
	l, err := d.current()
	if err != nil {
		return nil, err
	}
	if name.Snapshot != "" { // one that was answered may not be applied yet
		if err := l.operations.settled(ctx); err != nil {
			return nil, err
		}
	}
	image, ok := l.replica.Lookup(name.Image)
	if !ok {
		return nil, fault.New(fault.NotFound, "there is no image %q", name)
	}
	if name.Snapshot != "" || image.ReadOnly() {
		return l.openReadOnly(image, name)
	}
	view := holder.View{Name: name.String(), Content: image, Gone: l.ended}
	return &session{View: view, image: image, life: l, close: d.session(sessionKey{image: image.ID()})}, nil
}

// openReadOnly opens what cannot be written though its directory is owned here.
func (l *life) openReadOnly(image *replica.Image, name events.ImageName) (nbd.Device, error) {
	key := sessionKey{image: image.ID(), readOnly: true}
	if name.Snapshot != "" {
		snapshot, ok := image.Snapshot(name.Snapshot)
		if !ok {
			return nil, fault.New(fault.NotFound, "there is no snapshot %q", name)
		}
		key.snapshot = snapshot.ID()
	}
	closed := l.directory.session(key)
	e, err := holder.OpenReadOnly(l.replica, name, l.ended, closed)
	if err != nil {
		closed()
	}
	return e, err
}
