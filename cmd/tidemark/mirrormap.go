package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
)

func newMirrorDirmap(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "dirmap POOL/DIR", Short: "Show where a directory runs, and how it follows", Args: takes(1, 1),
		RunE: c.requestDirectory(func(ctx context.Context, s *client, name events.DirectoryName) error {
			d, err := call[api.Directory](ctx, s, api.DirectoryResolve, name)
			if err != nil {
				return err
			}
			return c.show(d, func(t *table) { dirmapRows(t, d) })
		}),
	}
}

func dirmapRows(t *table, d api.Directory) {
	t.row("DIRECTORY", "ROLE", "NODE", "STATE", "EPOCH", "DELAY", "TARGET RPO", "LIMIT")
	t.row(d.Name, d.Role, d.Node, d.State, d.Epoch, setting(d.Delay), setting(d.TargetRPO), limitOf(d.Following))
}

// share is what one node holds of a pool.
type share struct {
	Node      string `json:"node"` // empty: nobody holds them
	Primaries int    `json:"primaries"`
	Replicas  int    `json:"replicas"`
}

func newMirrorDistribution(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "distribution POOL", Short: "Show how a pool's directories are spread over the site's nodes", Args: takes(1, 1),
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			pool, err := parsePool(args[0])
			if err != nil {
				return err
			}
			dirs, err := s.listDirectories(ctx, api.PoolFilter{Pool: pool.Pool})
			if err != nil {
				return err
			}
			shares := distribution(dirs)
			return c.show(shares, func(t *table) {
				t.row("NODE", "PRIMARIES", "REPLICAS")
				for _, n := range shares {
					t.row(n.Node, n.Primaries, n.Replicas)
				}
			})
		}),
	}
}

// distribution counts the directories that each node holds, by the nodes' names.
func distribution(dirs []api.Directory) []share {
	of := map[string]share{}
	for _, d := range dirs {
		n := of[d.Node]
		n.Node = d.Node
		if d.Role == events.Master {
			n.Primaries++
		} else {
			n.Replicas++
		}
		of[d.Node] = n
	}
	shares := make([]share, 0, len(of))
	for _, node := range slices.Sorted(maps.Keys(of)) {
		shares = append(shares, of[node])
	}
	return shares
}

func newMirrorDaemons(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "daemons", Short: "List the nodes that follow or own directories at this site", Args: takes(0, 0),
		RunE: c.request(func(ctx context.Context, s *client, _ []string) error {
			m, err := s.siteMap(ctx)
			if err != nil {
				return err
			}
			nodes := nodesOf(m.Site.Instances)
			return c.show(nodes, func(t *table) {
				t.row("NODE", "SERVICES", "SINCE")
				for _, n := range nodes {
					t.row(n.Node, strings.Join(n.Services, " "), n.Since.Time().Format(time.RFC3339))
				}
			})
		}),
	}
}
