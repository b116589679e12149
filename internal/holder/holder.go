// Package holder answers the questions about a directory that every holder of a copy
// can answer, owner or follower: which images it has and what they are.
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
}

// Handlers answer ImageList and ImageInfo.
func (c Copy) Handlers() []api.Handler {
	return []api.Handler{
		api.On(api.HolderSubject(c.ID, api.ImageList), func(context.Context, api.Nothing) ([]api.Image, error) {
			return c.Images(), nil
		}),
		api.On(api.HolderSubject(c.ID, api.ImageInfo), func(_ context.Context, r api.ImageRequest) (api.Image, error) {
			return c.Image(r.Image)
		}),
	}
}

// Images describes all images, by name.
func (c Copy) Images() []api.Image {
	infos := c.Replica.Images()
	slices.SortFunc(infos, func(a, b replica.ImageInfo) int { return strings.Compare(a.Name, b.Name) })
	images := make([]api.Image, len(infos))
	for i, info := range infos {
		images[i] = c.describe(info)
	}
	return images
}

// Image describes one image; [fault.NotFound] if there is none of that name.
func (c Copy) Image(name string) (api.Image, error) {
	image, ok := c.Replica.Lookup(name)
	if !ok {
		return api.Image{}, fault.New(fault.NotFound, "there is no image %q", c.Name.Join(name))
	}
	return c.describe(image.Info()), nil
}

func (c Copy) describe(i replica.ImageInfo) api.Image {
	return api.Image{
		ID: i.ID, Name: c.Name.Join(i.Name), Image: i.Name, Size: i.Size, ObjectSize: i.ObjectSize,
		Objects: i.Objects, UsedBytes: i.UsedBytes, ReadOnly: c.ReadOnly, Version: i.Version, Directory: c.ID,
	}
}

// Refusals answer the requests that only a primary can serve.
func (c Copy) Refusals() []api.Handler {
	var handlers []api.Handler
	for _, request := range []string{api.ImageCreate, api.ImageResize, api.ImageRemove} {
		handlers = append(handlers, api.On(api.HolderSubject(c.ID, request),
			func(context.Context, any) (api.Nothing, error) {
				return api.Nothing{}, fault.New(fault.NotPrimary,
					"directory %s is not primary at this site; promote it first", c.Name)
			}))
	}
	return handlers
}
