package journal

import (
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

// Export implements [holder.Held].
func (d *directory) Export(name events.ImageName) (nbd.Device, error) {
	l, err := d.current()
	if err != nil {
		return nil, err
	}
	image, ok := l.replica.Lookup(name.Image)
	if !ok || name.Snapshot != "" {
		return nil, fault.New(fault.NotFound, "there is no image %q", name)
	}
	view := holder.View{Name: name.String(), Image: image, Gone: l.ended}
	return &session{View: view, life: l, close: d.session(image.ID())}, nil
}
