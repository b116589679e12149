package main

import (
	"context"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
)

func newMirror(c *cli) *cobra.Command {
	return group("mirror", "Replicas at other sites",
		&cobra.Command{
			Use: "enable POOL", Short: "Let peers follow a pool's directories", Args: takes(1, 1),
			RunE: c.request(func(ctx context.Context, s *client, args []string) error {
				return c.changePool(ctx, s, api.MirrorEnable, args[0])
			}),
		},
		&cobra.Command{
			Use: "disable POOL", Short: "End the mirroring of a pool", Args: takes(1, 1),
			RunE: c.request(func(ctx context.Context, s *client, args []string) error {
				return c.changePool(ctx, s, api.MirrorDisable, args[0])
			}),
		},
		&cobra.Command{
			Use: "add POOL/DIR", Short: "Follow a peer's directory at this site", Args: takes(1, 1),
			RunE: c.requestDirectory(func(ctx context.Context, s *client, name events.DirectoryName) error {
				return c.changeDirectory(ctx, s, api.MirrorAdd, name)
			}),
		},
		&cobra.Command{
			Use: "remove POOL/DIR", Short: "Stop following a directory and delete this site's copy", Args: takes(1, 1),
			RunE: c.requestDirectory(func(ctx context.Context, s *client, name events.DirectoryName) error {
				if _, err := call[api.Nothing](ctx, s, api.MirrorRemove, name); err != nil {
					return err
				}
				return c.showRemoved(name.String())
			}),
		},
		newMirrorStatus(c),
		newMirrorPromote(c),
		newMirrorDemote(c),
		newMirrorResync(c), newMirrorSet(c), newMirrorDirmap(c), newMirrorDiscard(c), newMirrorDistribution(c), newMirrorDaemons(c), newMirrorPlacement(c), newMirrorVerify(c),
		newPeer(c),
	)
}
