package journal

import (
	"context"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
)

func snapshotOf(image *replica.Image, name string) (*replica.Snapshot, error) {
	snapshot, ok := image.Snapshot(name)
	if !ok {
		return nil, fault.New(fault.NotFound, "image %q has no snapshot %q", image.Name(), name)
	}
	return snapshot, nil
}

// createSnapshot takes a snapshot of an image, or of all images at one position. It is
// answered when it is safe, and shown when it is applied: [operations.settled].
func (l *life) createSnapshot(ctx context.Context, r api.SnapRequest) ([]api.Snapshot, error) {
	if err := checkName(r.Snapshot); err != nil {
		return nil, err
	}
	var made []api.Snapshot
	out, err := l.operations.run(ctx, operation{isolation: ordering, intend: func() (events.Event, error) {
		images, err := l.snapshotted(r.Image)
		if err != nil {
			return nil, err
		}
		intent := events.SnapshotsCreated{Name: r.Snapshot, Group: r.Image == "", First: l.replica.NextSnapshotID()}
		for i, image := range images {
			intent.Images = append(intent.Images, image.ID())
			made = append(made, l.copy().DescribeSnapshot(image.Name(), replica.SnapshotInfo{
				ID: intent.First + events.SnapshotID(i), Name: intent.Name, Size: image.Size(), Group: intent.Group,
			}))
		}
		return intent, nil
	}})
	if err != nil {
		return nil, err
	}
	for i := range made {
		made[i].Position, made[i].Created = out.position, out.at
	}
	return made, nil
}

// snapshotted returns the image of a name, or all images.
func (l *life) snapshotted(name string) ([]*replica.Image, error) {
	if name != "" {
		image, err := l.image(name)
		if err != nil {
			return nil, err
		}
		return []*replica.Image{image}, nil
	}
	var images []*replica.Image
	for _, info := range l.replica.Images() {
		if image, ok := l.replica.Image(info.ID); ok {
			images = append(images, image)
		}
	}
	if len(images) == 0 {
		return nil, fault.New(fault.NotFound, "the directory has no image to take a snapshot of")
	}
	return images, nil
}

// onSnapshots carries out an operation on the snapshot of a name: of one image, or of each
// that has it. It returns the names of the images.
func (l *life) onSnapshots(ctx context.Context, r api.SnapRequest, op operation, intend func(*replica.Image, *replica.Snapshot) (events.Event, error)) ([]string, error) {
	names := []string{r.Image}
	if r.Image == "" {
		var err error
		if names, err = l.having(ctx, r.Snapshot); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		_, err := l.operate(ctx, op, name, func(image *replica.Image) (events.Event, error) {
			snapshot, err := snapshotOf(image, r.Snapshot)
			if err != nil {
				return nil, err
			}
			return intend(image, snapshot)
		})
		if err != nil {
			return nil, fault.New(fault.CodeOf(err), "%s@%s: %w", name, r.Snapshot, err)
		}
	}
	return names, nil
}

// having names the images that have a snapshot of a name.
func (l *life) having(ctx context.Context, snapshot string) ([]string, error) {
	if err := l.operations.settled(ctx); err != nil {
		return nil, err
	}
	var names []string
	for _, info := range l.replica.Images() {
		image, ok := l.replica.Image(info.ID)
		if !ok {
			continue
		}
		if _, ok := image.Snapshot(snapshot); ok {
			names = append(names, info.Name)
		}
	}
	if len(names) == 0 {
		return nil, fault.New(fault.NotFound, "no image of the directory has a snapshot %q", snapshot)
	}
	return names, nil
}

func (l *life) removeSnapshot(ctx context.Context, r api.SnapRequest) error {
	_, err := l.onSnapshots(ctx, r, operation{isolation: sharing}, func(image *replica.Image, s *replica.Snapshot) (events.Event, error) {
		return events.SnapshotRemoved{Image: image.ID(), Snapshot: s.ID()}, nil
	})
	return err
}

func (l *life) renameSnapshot(ctx context.Context, r api.SnapRequest, name string) ([]string, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return l.onSnapshots(ctx, r, operation{isolation: sharing}, func(image *replica.Image, s *replica.Snapshot) (events.Event, error) {
		return events.SnapshotRenamed{Image: image.ID(), Snapshot: s.ID(), Name: name}, nil
	})
}

func (l *life) protectSnapshot(ctx context.Context, r api.SnapRequest) ([]string, error) {
	return l.onSnapshots(ctx, r, operation{isolation: sharing}, func(image *replica.Image, s *replica.Snapshot) (events.Event, error) {
		return events.SnapshotProtected{Image: image.ID(), Snapshot: s.ID()}, nil
	})
}

func (l *life) unprotectSnapshot(ctx context.Context, r api.SnapRequest) ([]string, error) {
	return l.onSnapshots(ctx, r, operation{isolation: sharing}, func(image *replica.Image, s *replica.Snapshot) (events.Event, error) {
		return events.SnapshotUnprotected{Image: image.ID(), Snapshot: s.ID()}, nil
	})
}

// rollback gives an image the content of a snapshot again, while no client could be
// confused by that: none has it open for writing.
func (l *life) rollback(ctx context.Context, r api.SnapRequest) error {
	op := operation{isolation: excluding, destroys: true}
	_, err := l.onSnapshots(ctx, r, op, func(image *replica.Image, s *replica.Snapshot) (events.Event, error) {
		return events.SnapshotRolledBack{Image: image.ID(), Snapshot: s.ID()}, nil
	})
	return err
}

func (l *life) limitSnapshots(ctx context.Context, r api.SnapLimitRequest) error {
	limit := r.Limit
	if limit == 0 {
		limit = events.SnapshotsMax
	}
	_, err := l.operate(ctx, operation{isolation: sharing}, r.Image, func(image *replica.Image) (events.Event, error) {
		return events.SnapshotLimitChanged{Image: image.ID(), Limit: limit}, nil
	})
	return err
}
