package journal

import (
	"cmp"
	"context"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
)

// Bounds of an image.
const (
	imageBytesMax     = 1 << 50
	sectorBytes       = 512
	imagesInDirectory = 4096
)

// CheckCreation reports whether an image can be created so in a directory with room for it.
// The error has the code [fault.Usage].
func CheckCreation(r api.ImageCreateRequest) error {
	return checkImage(r.Image, r.Size, cmp.Or(r.ObjectSize, replica.ObjectSizeDefault))
}

func checkImage(name string, size, objectSize uint64) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := replica.CheckImage(size, objectSize); err != nil {
		return err
	}
	return checkSize(size)
}

func checkName(name string) error {
	if err := events.CheckName(name); err != nil {
		return fault.New(fault.Usage, "%w", err)
	}
	return nil
}

func checkSize(size uint64) error {
	if size == 0 || size > imageBytesMax || size%sectorBytes != 0 {
		return fault.New(fault.Usage, "an image's size is a multiple of %d bytes up to 1 PiB, not %d", sectorBytes, size)
	}
	return nil
}

func (l *life) image(name string) (*replica.Image, error) {
	image, ok := l.replica.Lookup(name)
	if !ok {
		return nil, fault.New(fault.NotFound, "there is no image %q", name)
	}
	return image, nil
}

// operate carries out an operation on an image. intend is called with the image when the
// operation's turn has come.
func (l *life) operate(ctx context.Context, op operation, name string, intend func(*replica.Image) (events.Event, error)) (outcome, error) {
	op.intend = func() (events.Event, error) {
		image, err := l.image(name)
		if err != nil {
			return nil, err
		}
		return intend(image)
	}
	return l.operations.run(ctx, op)
}

// unused refuses an operation that would pull something from under the clients that have
// it open: an image or a snapshot that is removed, or the content of an image that is
// open for writing.
func (l *life) unused(intent events.Event) error {
	n := l.directory.count(func(k sessionKey) bool {
		switch e := intent.(type) {
		case events.ImageRemoved:
			return k.image == e.Image && k.snapshot == 0
		case events.SnapshotRemoved:
			return k.image == e.Image && k.snapshot == e.Snapshot
		case events.SnapshotRolledBack:
			return k == sessionKey{image: e.Image}
		}
		return false
	})
	if n > 0 {
		return fault.New(fault.Busy, "it is open in %d NBD sessions", n)
	}
	return nil
}

// roomForImage refuses an image more than a directory holds.
func (l *life) roomForImage() error {
	if len(l.replica.Images()) >= imagesInDirectory {
		return fault.New(fault.NoSpace, "the directory holds %d images, the most it can", imagesInDirectory)
	}
	return nil
}

func (l *life) createImage(ctx context.Context, r api.ImageCreateRequest) error {
	if r.ObjectSize == 0 {
		r.ObjectSize = replica.ObjectSizeDefault
	}
	if err := checkImage(r.Image, r.Size, r.ObjectSize); err != nil {
		return err
	}
	_, err := l.operations.run(ctx, operation{isolation: sharing, intend: func() (events.Event, error) {
		return events.ImageCreated{Image: l.replica.NextImageID(), Name: r.Image, Size: r.Size, ObjectSize: r.ObjectSize}, l.roomForImage()
	}})
	return err
}

func (l *life) cloneImage(ctx context.Context, r api.ImageCloneRequest) error {
	if err := checkName(r.NewName); err != nil {
		return err
	}
	_, err := l.operate(ctx, operation{isolation: sharing}, r.Image, func(parent *replica.Image) (events.Event, error) {
		snapshot, err := snapshotOf(parent, r.Snapshot)
		if err != nil {
			return nil, err
		}
		return events.ImageCloned{Image: l.replica.NextImageID(), Name: r.NewName, Parent: parent.ID(), Snapshot: snapshot.ID()}, l.roomForImage()
	})
	return err
}

func (l *life) resizeImage(ctx context.Context, r api.ImageResizeRequest) error {
	if err := checkSize(r.Size); err != nil {
		return err
	}
	op := operation{isolation: excluding, destroys: r.AllowShrink}
	_, err := l.operate(ctx, op, r.Image, func(image *replica.Image) (events.Event, error) {
		if r.Size < image.Size() && !r.AllowShrink {
			return nil, fault.New(fault.Busy,
				"image %q would shrink from %d to %d bytes and lose what lies beyond; say --allow-shrink to do so",
				r.Image, image.Size(), r.Size)
		}
		return events.ImageResized{Image: image.ID(), Size: r.Size}, nil
	})
	return err
}

// removeImage removes an image that no client has open, or one of its names while it has
// others.
func (l *life) removeImage(ctx context.Context, r api.ImageRequest) error {
	if _, ours := l.replica.Lookup(r.Image); !ours && l.conflicts.Has(r.Image) {
		return l.conflicts.Remove(r.Image) // it is of no history
	}
	op := operation{isolation: excluding, destroys: true}
	_, err := l.operate(ctx, op, r.Image, func(image *replica.Image) (events.Event, error) {
		if len(image.Names()) > 1 {
			return events.ImageUnlinked{Image: image.ID(), Name: r.Image}, nil
		}
		return events.ImageRemoved{Image: image.ID()}, nil
	})
	return err
}

func (l *life) renameImage(ctx context.Context, r api.ImageNameRequest) error {
	if err := checkName(r.NewName); err != nil {
		return err
	}
	_, err := l.operate(ctx, operation{isolation: sharing}, r.Image, func(image *replica.Image) (events.Event, error) {
		return events.ImageRenamed{Image: image.ID(), From: r.Image, To: r.NewName}, nil
	})
	return err
}

func (l *life) linkImage(ctx context.Context, r api.ImageNameRequest) error {
	if err := checkName(r.NewName); err != nil {
		return err
	}
	_, err := l.operate(ctx, operation{isolation: sharing}, r.Image, func(image *replica.Image) (events.Event, error) {
		return events.ImageLinked{Image: image.ID(), Name: r.NewName}, nil
	})
	return err
}

// flattenImage copies into a clone what it still reads from its parent, and then cuts the
// two apart. The copying ends with the life; the next one only cuts.
func (l *life) flattenImage(ctx context.Context, r api.ImageRequest, tell func(api.Progress)) error {
	var id events.ImageID
	op := operation{isolation: sharing, work: func(ctx context.Context) error {
		total := uint64(0)
		for {
			left, err := l.replica.Pull(ctx, id)
			if fault.CodeOf(err) == fault.NotReady {
				return nil // a follower copies the layers: compaction goes on when it has
			}
			if err != nil || left == 0 {
				return err
			}
			total = max(total, left)
			tell(api.Progress{Objects: total - left, ObjectsTotal: total})
		}
	}}
	_, err := l.operate(ctx, op, r.Image, func(image *replica.Image) (events.Event, error) {
		id = image.ID()
		return events.ImageFlattened{Image: id}, nil
	})
	return err
}

func (l *life) changeFeature(ctx context.Context, r api.ImageFeatureRequest) error {
	if r.Feature != events.FeatureReadOnly {
		return fault.New(fault.Usage, "there is no feature %q; there is %s", r.Feature, events.FeatureReadOnly)
	}
	_, err := l.operate(ctx, operation{isolation: excluding}, r.Image, func(image *replica.Image) (events.Event, error) {
		return events.FeatureChanged{Image: image.ID(), Feature: r.Feature, Enabled: r.Enabled}, nil
	})
	return err
}

func (l *life) setMetadata(ctx context.Context, r api.MetadataRequest) error {
	_, err := l.operate(ctx, operation{isolation: sharing}, r.Image, func(image *replica.Image) (events.Event, error) {
		return events.MetadataSet{Image: image.ID(), Key: r.Key, Value: r.Value}, nil
	})
	return err
}

func (l *life) unsetMetadata(ctx context.Context, r api.MetadataRequest) error {
	_, err := l.operate(ctx, operation{isolation: sharing}, r.Image, func(image *replica.Image) (events.Event, error) {
		return events.MetadataRemoved{Image: image.ID(), Key: r.Key}, nil
	})
	return err
}
