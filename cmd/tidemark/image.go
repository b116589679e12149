package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/overview"
	"tidemark/services/journal"
)

func newImage(c *cli) *cobra.Command {
	return group("image", "Block devices",
		newImageCreate(c), newImageList(c), newImageInfo(c), newImageResize(c), newImageRemove(c),
		newImageRename(c), newImageLink(c), newImageMeta(c), newImageFeature(c), newImageFill(c), newImageCompareAndWrite(c))
}

func newImageCreate(c *cli) *cobra.Command {
	var bytes, objectBytes size
	cmd := &cobra.Command{
		Use: "create POOL/DIR/IMAGE --size SIZE", Short: "Create an image, and its directory if it is missing", Args: takes(1, 1),
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			name, err := parseImage(args[0])
			if err != nil {
				return err
			}
			if bytes == 0 {
				return fault.New(fault.Usage, "say how large the image is: --size SIZE")
			}
			image, err := s.createImage(ctx, name, uint64(bytes), uint64(objectBytes))
			if err != nil {
				return err
			}
			return c.show(image, func(t *table) { imageRows(t, image) })
		}),
	}
	cmd.Flags().Var(&bytes, "size", "size of the image")
	cmd.Flags().Var(&objectBytes, "object-size", "size of its objects, a power of two (default 4MiB)")
	return cmd
}

// createImage creates an image, and its directory first if there is none. A new directory is
// given to a node, which is waited for; one that its node cannot open is not.
func (s *client) createImage(ctx context.Context, name events.ImageName, bytes, objectBytes uint64) (api.Image, error) {
	request := api.ImageCreateRequest{Image: name.Image, Size: bytes, ObjectSize: objectBytes}
	if err := journal.CheckCreation(request); err != nil { // before there is a directory for nothing
		return api.Image{}, err
	}
	d, err := call[api.Directory](ctx, s, api.DirectoryResolve, name.DirectoryName)
	if fault.CodeOf(err) == fault.NotFound {
		d, err = call[api.Directory](ctx, s, api.DirectoryCreate, name.DirectoryName)
		if fault.CodeOf(err) == fault.Exists { // somebody else was faster
			d, err = call[api.Directory](ctx, s, api.DirectoryResolve, name.DirectoryName)
		}
	}
	if err != nil {
		return api.Image{}, err
	}
	wait := settleTime
	if d.Error == "" && d.State != overview.Mapped {
		wait = untilDeadline
	}
	return holdSettled[api.Image](ctx, s, d, wait, api.ImageCreate, request)
}

func newImageList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "list [POOL[/DIR]]", Short: "List images", Args: takes(0, 1),
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			dirs, err := s.directories(ctx, args)
			if err != nil {
				return err
			}
			answers := askHolders[[]api.Image](ctx, s, dirs, api.ImageList)
			var images []api.Image
			var missing error
			for _, a := range answers {
				images = append(images, a.reply...)
				missing = errors.Join(missing, a.err)
			}
			slices.SortFunc(images, func(a, b api.Image) int { return cmp.Compare(a.Name, b.Name) })
			if err := c.show(list(images), func(t *table) { imageRows(t, images...) }); err != nil {
				return err
			}
			return missing // what could be listed was; what could not is told
		}),
	}
}

func newImageInfo(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "info POOL/DIR/IMAGE", Short: "Show an image", Args: takes(1, 1),
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			name, err := parseImage(args[0])
			if err != nil {
				return err
			}
			image, err := holder[api.Image](ctx, s, name.DirectoryName, api.ImageInfo, api.ImageRequest{Image: name.Image})
			if err != nil {
				return err
			}
			return c.show(image, func(t *table) {
				t.row("image:", image.Name)
				t.row("id:", image.ID)
				t.row("size:", formatSize(image.Size))
				t.row("object size:", formatSize(image.ObjectSize))
				t.row("objects with data:", image.Objects)
				t.row("used here:", formatSize(image.UsedBytes))
				t.row("access:", accessTo(image))
				t.row("names:", strings.Join(image.Names, ", "))
				t.row("features:", strings.Join(image.Features, ", "))
				t.row("parent:", image.Parent)
				if image.ConflictOf != "" {
					t.row("conflict of:", image.ConflictOf)
				}
				t.row("snapshots:", image.Snapshots)
				t.row("snapshot limit:", orNone(image.SnapshotLimit))
				t.row("version:", image.Version)
			})
		}),
	}
}

func newImageResize(c *cli) *cobra.Command {
	var bytes size
	var shrink bool
	cmd := &cobra.Command{
		Use: "resize POOL/DIR/IMAGE --size SIZE", Short: "Change an image's size", Args: takes(1, 1),
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			name, err := parseImage(args[0])
			if err != nil {
				return err
			}
			if bytes == 0 {
				return fault.New(fault.Usage, "say how large the image is to be: --size SIZE")
			}
			image, err := holder[api.Image](ctx, s, name.DirectoryName, api.ImageResize,
				api.ImageResizeRequest{Image: name.Image, Size: uint64(bytes), AllowShrink: shrink})
			if err != nil {
				return err
			}
			return c.show(image, func(t *table) { imageRows(t, image) })
		}),
	}
	cmd.Flags().Var(&bytes, "size", "new size of the image")
	cmd.Flags().BoolVar(&shrink, "allow-shrink", false, "accept that what lies beyond a smaller size is lost")
	return cmd
}

func newImageRemove(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "remove POOL/DIR/IMAGE", Short: "Remove an image and its data, or one of several names", Args: takes(1, 1),
		Long: `Removes a name of an image. With its last name the image and its data are gone: that is
refused while it has snapshots, or a client has it open.`,
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			name, err := parseImage(args[0])
			if err != nil {
				return err
			}
			_, err = holder[api.Nothing](ctx, s, name.DirectoryName, api.ImageRemove, api.ImageRequest{Image: name.Image})
			if err != nil {
				return err
			}
			return c.showRemoved(name.String())
		}),
	}
}

func imageRows(t *table, images ...api.Image) {
	t.row("IMAGE", "SIZE", "OBJECT SIZE", "USED", "ACCESS")
	for _, i := range images {
		t.row(i.Name, formatSize(i.Size), formatSize(i.ObjectSize), formatSize(i.UsedBytes), accessTo(i))
	}
}

func accessTo(i api.Image) string {
	if i.ReadOnly {
		return "read-only"
	}
	return "read-write"
}
