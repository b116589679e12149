package main

import (
	"context"

	"github.com/spf13/cobra"

	"tidemark/internal/api"
)

func newClone(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "clone POOL/DIR/IMAGE@SNAPSHOT NEWIMAGE", Short: "Make an image that begins as a protected snapshot of another", Args: takes(2, 2),
		Long: `Makes an image that begins with the size and content of a snapshot and takes no space
until it is written to. The snapshot must be protected, and stays so while it has clones;
'tidemark flatten' makes a clone stand on its own. NEWIMAGE is a name in the same
directory, as one word or as the whole of POOL/DIR/NEWIMAGE.`,
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			name, err := parseSnapshot(args[0])
			if err != nil {
				return err
			}
			clone, err := sibling(name.DirectoryName, args[1])
			if err != nil {
				return err
			}
			image, err := holder[api.Image](ctx, s, name.DirectoryName, api.ImageClone,
				api.ImageCloneRequest{Image: name.Image, Snapshot: name.Snapshot, NewName: clone})
			if err != nil {
				return err
			}
			return c.show(image, func(t *table) { imageRows(t, image) })
		}),
	}
}

func newFlatten(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "flatten POOL/DIR/IMAGE", Short: "Make a clone stand on its own", Args: takes(1, 1),
		Long: `Makes a clone independent of the snapshot that it stands on, and waits until it is.
However long that takes: --timeout is for how long the site may say nothing.`,
		RunE: c.action(func(ctx context.Context, args []string) error {
			name, err := parseImage(args[0])
			if err != nil {
				return err
			}
			image, err := longWork[api.Image](ctx, c, name.DirectoryName, "flattening "+name.String(), api.ImageFlatten, api.ImageRequest{Image: name.Image})
			if err != nil {
				return err
			}
			return c.show(image, func(t *table) { imageRows(t, image) })
		}),
	}
}
