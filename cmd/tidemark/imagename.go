package main

import (
	"context"

	"github.com/spf13/cobra"

	"tidemark/internal/api"
)

func newImageRename(c *cli) *cobra.Command {
	return newImageNaming(c, "rename", "Give an image another name", api.ImageRename)
}

func newImageLink(c *cli) *cobra.Command {
	return newImageNaming(c, "link", "Give an image a further name", api.ImageLink)
}

// newImageNaming makes a command that takes an image and a new name in its directory.
func newImageNaming(c *cli, verb, short, request string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " POOL/DIR/IMAGE NEWNAME", Short: short, Args: takes(2, 2),
		Long: short + `: one word, or the whole of POOL/DIR/NEWNAME. An image
stays in its directory, because its data is in the directory's journal.`,
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			name, err := parseImage(args[0])
			if err != nil {
				return err
			}
			renamed, err := sibling(name.DirectoryName, args[1])
			if err != nil {
				return err
			}
			image, err := holder[api.Image](ctx, s, name.DirectoryName, request, api.ImageNameRequest{Image: name.Image, NewName: renamed})
			if err != nil {
				return err
			}
			return c.show(image, func(t *table) { imageRows(t, image) })
		}),
	}
}

func newImageFeature(c *cli) *cobra.Command {
	turn := func(verb, short string, enabled bool) *cobra.Command {
		return &cobra.Command{
			Use: verb + " POOL/DIR/IMAGE FEATURE", Short: short, Args: takes(2, 2),
			Long: short + `. There is one: read-only, which refuses writes to the image at
whatever site it is primary.`,
			RunE: c.request(func(ctx context.Context, s *client, args []string) error {
				name, err := parseImage(args[0])
				if err != nil {
					return err
				}
				image, err := holder[api.Image](ctx, s, name.DirectoryName, api.ImageFeature,
					api.ImageFeatureRequest{Image: name.Image, Feature: args[1], Enabled: enabled})
				if err != nil {
					return err
				}
				return c.show(image, func(t *table) { imageRows(t, image) })
			}),
		}
	}
	return group("feature", "What an image does beside storing",
		turn("enable", "Turn a feature on", true), turn("disable", "Turn a feature off", false))
}
