package journal

import (
	"errors"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
)

// translate gives a fact of another journal the numbers that its images and snapshots
// have here.
func (l *life) translate(e api.ImportEntry, fact events.Event) (events.Event, error) {
	switch f := fact.(type) {
	case events.ImageCreated:
		f.Image = l.replica.NextImageID()
		return f, errors.Join(checkImage(f.Name, f.Size, f.ObjectSize), l.roomForImage())
	case events.SnapshotsCreated:
		return l.translateSnapshots(e, f)
	}
	image, err := l.image(e.Image)
	if err != nil {
		return nil, l.orThereAlready(err, fact)
	}
	if resized, ok := fact.(events.ImageResized); ok {
		if err := checkSize(resized.Size); err != nil {
			return nil, err
		}
	}
	if intent := aboutImage(image, e.Image, fact); intent != nil {
		return intent, nil
	}
	snapshot, err := snapshotOf(image, e.Snapshot)
	if err != nil {
		if renamed, ok := fact.(events.SnapshotRenamed); ok {
			if _, there := image.Snapshot(renamed.Name); there {
				return nil, fault.New(fault.Exists, "snapshot %q was renamed to %q already", e.Snapshot, renamed.Name)
			}
		}
		return nil, err
	}
	return l.aboutSnapshot(image, snapshot, fact)
}

// orThereAlready tells an image that is not there because it was renamed already.
func (l *life) orThereAlready(err error, fact events.Event) error {
	if renamed, ok := fact.(events.ImageRenamed); ok {
		if _, there := l.replica.Lookup(renamed.To); there {
			return fault.New(fault.Exists, "it was renamed to %q already: %w", renamed.To, err)
		}
	}
	return err
}

// translateSnapshots gives a snapshot of several images the numbers of those here.
func (l *life) translateSnapshots(e api.ImportEntry, f events.SnapshotsCreated) (events.Event, error) {
	if len(e.Images) != len(f.Images) || len(e.Images) == 0 {
		return nil, fault.New(fault.Corrupt, "a snapshot of %d images names %d", len(f.Images), len(e.Images))
	}
	f.First, f.Images = l.replica.NextSnapshotID(), nil
	for _, name := range e.Images {
		image, err := l.image(name)
		if err != nil {
			return nil, err
		}
		f.Images = append(f.Images, image.ID())
	}
	return f, checkName(f.Name)
}

// aboutImage returns a fact about an image that is known under a name; nil for a fact
// about a snapshot.
func aboutImage(image *replica.Image, name string, fact events.Event) events.Event {
	switch f := fact.(type) {
	case events.ImageResized:
		f.Image = image.ID()
		return f
	case events.ImageRemoved:
		f.Image = image.ID()
		return f
	case events.ImageRenamed:
		f.Image, f.From = image.ID(), name
		return f
	case events.ImageLinked:
		f.Image = image.ID()
		return f
	case events.ImageUnlinked:
		f.Image = image.ID()
		return f
	case events.ImageFlattened:
		f.Image = image.ID()
		return f
	case events.FeatureChanged:
		f.Image = image.ID()
		return f
	case events.MetadataSet:
		f.Image = image.ID()
		return f
	case events.MetadataRemoved:
		f.Image = image.ID()
		return f
	case events.SnapshotLimitChanged:
		f.Image = image.ID()
		return f
	}
	return nil
}

// aboutSnapshot returns a fact about a snapshot.
func (l *life) aboutSnapshot(image *replica.Image, snapshot *replica.Snapshot, fact events.Event) (events.Event, error) {
	switch f := fact.(type) {
	case events.ImageCloned:
		f.Image, f.Parent, f.Snapshot = l.replica.NextImageID(), image.ID(), snapshot.ID()
		return f, errors.Join(checkName(f.Name), l.roomForImage())
	case events.SnapshotRemoved:
		f.Image, f.Snapshot = image.ID(), snapshot.ID()
		return f, nil
	case events.SnapshotRenamed:
		f.Image, f.Snapshot = image.ID(), snapshot.ID()
		return f, nil
	case events.SnapshotProtected:
		f.Image, f.Snapshot = image.ID(), snapshot.ID()
		return f, nil
	case events.SnapshotUnprotected:
		f.Image, f.Snapshot = image.ID(), snapshot.ID()
		return f, nil
	case events.SnapshotRolledBack:
		f.Image, f.Snapshot = image.ID(), snapshot.ID()
		return f, nil
	}
	return nil, fault.New(fault.Usage, "an import holds changes and facts, not %T", fact)
}
