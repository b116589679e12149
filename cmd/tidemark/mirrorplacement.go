package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
)

func newMirrorPlacement(c *cli) *cobra.Command {
	var throttle time.Duration
	var by string
	cmd := &cobra.Command{
		Use: "placement", Short: "Show or change how replicas are spread over the site's nodes", Args: takes(0, 0),
		Long: `Replicas are spread evenly over the nodes of the site. When a node joins, or one has
more than its part, only the surplus moves; a replica that moves is synced anew at its new
node. Directories that are primary here are never moved while their node lives.`,
	}
	cmd.Flags().DurationVar(&throttle, "throttle", 0, "how long a replica stays at a node before it may be moved again; 0s: not at all")
	cmd.Flags().StringVar(&by, "by", "", "what is spread evenly: count of directories, their size, or what writes to them")
	cmd.RunE = c.request(func(ctx context.Context, s *client, _ []string) error {
		var request api.PlacementSettings
		if cmd.Flags().Changed("throttle") {
			request.Throttle = &throttle
		}
		if cmd.Flags().Changed("by") {
			request.By = (*events.Balance)(&by)
		}
		p, err := call[api.Placement](ctx, s, api.MirrorPlacement, request)
		if err != nil {
			return err
		}
		return c.show(p, func(t *table) {
			t.row("THROTTLE", "BY")
			t.row(time.Duration(p.Throttle*float64(time.Second)).String(), p.By)
		})
	})
	return cmd
}
