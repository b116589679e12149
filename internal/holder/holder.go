package holder

import (
	"context"
	"slices"
	"strings"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
)

// Copy is one node's copy of a directory, as it is asked about.
type Copy struct {
	ID       events.DirectoryID
	Name     events.DirectoryName
	Replica  *replica.Replica
	ReadOnly bool // the images cannot be written here
	// Settled returns when the copy shows everything that was answered before. It may be
	// nil: it does always.
	Settled func(ctx context.Context) error
	// Conflicts are shown beside the copy's images. It may be nil: there are none.
	Conflicts *Conflicts
	// Journal describes the journal that the copy is filled from. Nil: it is not asked.
	Journal *Journal
}

// Handlers answer what can be asked about a copy without changing it.
func (c Copy) Handlers() []api.Handler {
	handlers := []api.Handler{
		on(c, api.ImageList, func(api.Nothing) ([]api.Image, error) { return c.Images(), nil }),
		on(c, api.ImageInfo, func(r api.ImageRequest) (api.Image, error) { return c.Image(r.Image) }),
		on(c, api.SnapList, func(r api.ImageRequest) ([]api.Snapshot, error) { return c.Snapshots(r.Image) }),
		on(c, api.MetadataList, func(r api.ImageRequest) (map[string]string, error) {
			image, err := c.lookup(r.Image)
			if err != nil {
				return nil, err
			}
			return image.Metadata(), nil
		}),
	}
	if c.Journal != nil {
		handlers = append(handlers, c.Journal.handlers(c)...)
	}
	return handlers
}

// on makes a handler of a function that looks at the settled copy.
func on[Request, Reply any](c Copy, request string, f func(Request) (Reply, error)) api.Handler {
	return api.On(api.HolderSubject(c.ID, request), func(ctx context.Context, r Request) (Reply, error) {
		if err := c.settle(ctx); err != nil {
			var none Reply
			return none, err
		}
		return f(r)
	})
}

func (c Copy) settle(ctx context.Context) error {
	if c.Settled == nil {
		return nil
	}
	return c.Settled(ctx)
}

func (c Copy) lookup(name string) (*replica.Image, error) {
	image, ok := c.Replica.Lookup(name)
	if !ok {
		return nil, fault.New(fault.NotFound, "there is no image %q", c.Name.Join(name))
	}
	return image, nil
}

// Images describes all images, by name.
func (c Copy) Images() []api.Image {
	infos := c.Replica.Images()
	slices.SortFunc(infos, func(a, b replica.ImageInfo) int { return strings.Compare(a.Name, b.Name) })
	images := make([]api.Image, len(infos))
	for i, info := range infos {
		images[i] = c.describe(info)
	}
	return append(images, c.Conflicts.describe(c)...)
}

// Image describes one image, under the name that it was asked by; [fault.NotFound] if
// there is none of that name.
func (c Copy) Image(name string) (api.Image, error) {
	image, err := c.lookup(name)
	if err != nil {
		for _, conflict := range c.Conflicts.describe(c) {
			if conflict.Image == name {
				return conflict, nil
			}
		}
		return api.Image{}, err
	}
	info := image.Info()
	info.Name = name
	return c.describe(info), nil
}

func (c Copy) describe(i replica.ImageInfo) api.Image {
	limit := i.SnapshotLimit
	if limit == events.SnapshotsMax {
		limit = 0 // none of its own
	}
	return api.Image{
		ID: i.ID, Name: c.Name.Join(i.Name), Image: i.Name, Size: i.Size, ObjectSize: i.ObjectSize,
		Objects: i.Objects, UsedBytes: i.UsedBytes, Version: i.Version, Directory: c.ID,
		ReadOnly: c.ReadOnly || slices.Contains(i.Features, events.FeatureReadOnly),
		Names:    i.Names, Features: i.Features, Snapshots: i.Snapshots, SnapshotLimit: limit,
		Parent: c.parentName(i.Parent, i.Snapshot),
	}
}

// parentName names the snapshot that a clone stands on.
func (c Copy) parentName(id events.ImageID, snapshot events.SnapshotID) string {
	parent, ok := c.Replica.Image(id)
	if !ok {
		return ""
	}
	for _, s := range parent.Snapshots() {
		if s.ID == snapshot {
			return parent.Name() + "@" + s.Name
		}
	}
	return ""
}

// Snapshots describes the snapshots of an image, or of all images where name is empty, by
// image and position.
func (c Copy) Snapshots(name string) ([]api.Snapshot, error) {
	all := []api.Snapshot{}
	if name != "" {
		image, err := c.lookup(name)
		if err != nil {
			return nil, err
		}
		return c.appendSnapshots(all, image, name), nil
	}
	for _, info := range c.Replica.Images() {
		if image, ok := c.Replica.Image(info.ID); ok {
			all = c.appendSnapshots(all, image, info.Name)
		}
	}
	return all, nil
}

func (c Copy) appendSnapshots(all []api.Snapshot, image *replica.Image, name string) []api.Snapshot {
	for _, info := range image.Snapshots() {
		all = append(all, c.DescribeSnapshot(name, info))
	}
	return all
}

// DescribeSnapshot describes a snapshot of the image of a name.
func (c Copy) DescribeSnapshot(image string, s replica.SnapshotInfo) api.Snapshot {
	return api.Snapshot{
		ID: s.ID, Name: c.Name.Join(image) + "@" + s.Name, Image: image, Snapshot: s.Name, Size: s.Size,
		Position: s.Position, Created: s.Created, Protected: s.Protected, Group: s.Group,
		Children: s.Children, UsedBytes: s.UsedBytes,
	}
}

// Refusals answer the requests that only a primary can serve. What is this node's alone can
// be removed here all the same.
func (c Copy) Refusals() []api.Handler {
	refuse := func() error {
		return fault.New(fault.NotPrimary, "directory %s is not primary at this site; promote it first", c.Name)
	}
	handlers := []api.Handler{
		api.On(api.HolderSubject(c.ID, api.ImageRemove), func(_ context.Context, r api.ImageRequest) (api.Nothing, error) {
			if c.Conflicts.Has(r.Image) {
				return api.Nothing{}, c.Conflicts.Remove(r.Image)
			}
			if _, err := c.lookup(r.Image); err != nil && strings.Contains(r.Image, conflictInfix) {
				return api.Nothing{}, err // it was removed before
			}
			return api.Nothing{}, refuse()
		}),
	}
	for _, request := range []string{
		api.ImageCreate, api.ImageResize, api.ImageRename, api.ImageLink, api.ImageClone,
		api.ImageFlatten, api.ImageFeature, api.ImageFill, api.ImageCompare, api.MetadataSet, api.MetadataUnset,
		api.SnapCreate, api.SnapRemove, api.SnapRename, api.SnapProtect, api.SnapUnprotect, api.SnapRollback,
		api.SnapLimit, api.JournalReset, api.JournalDisconnect, api.JournalImport,
	} {
		handlers = append(handlers, api.On(api.HolderSubject(c.ID, request),
			func(context.Context, any) (api.Nothing, error) { return api.Nothing{}, refuse() }))
	}
	return handlers
}
