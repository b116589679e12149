package journal

import (
	"context"
	"slices"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/nbd"
)

// Exports returns the images of the directories that this node owns.
func (s *Service) Exports() nbd.Exports { return exports{s} }

type exports struct{ service *Service }

// List implements [nbd.Exports].
func (e exports) List(context.Context) ([]string, error) {
	var names []string
	for _, d := range e.service.held() {
		l, err := d.current()
		if err != nil {
			continue
		}
		for _, image := range l.replica.Images() {
			names = append(names, d.name.Join(image.Name))
		}
	}
	slices.Sort(names)
	return names, nil
}

// Open implements [nbd.Exports].
func (e exports) Open(_ context.Context, name string) (nbd.Device, error) {
	image, err := events.ParseImage(name)
	if err != nil {
		return nil, fault.New(fault.NotFound, "export: %w", err)
	}
	for _, d := range e.service.held() {
		if d.name == image.DirectoryName {
			return d.open(image)
		}
	}
	return nil, fault.New(fault.NotFound, "this node serves no export %q", name)
}

func (d *directory) open(name events.ImageName) (nbd.Device, error) {
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
