package main

import (
	"cmp"
	"context"
	"maps"
	"slices"
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
	t.row("DIRECTORY", "ROLE", "NODE", "STATE", "EPOCH", "DELAY", "TARGET RPO", "LIMIT", "SINCE", "REASON")
	t.row(d.Name, d.Role, d.MappedTo, d.State, d.Epoch, setting(d.Delay), setting(d.TargetRPO), limitOf(d.Following), shuffled(d), cmp.Or(d.Reason, d.Error))
}

func shuffled(d api.Directory) string {
	if d.LastShuffled == 0 {
		return ""
	}
	return time.UnixMilli(int64(d.LastShuffled * 1000)).UTC().Format(time.RFC3339)
}

// share is what one node has of a pool.
type share struct {
	Node        string `json:"node"`
	State       string `json:"state"` // live, or dead: something is mapped to it that it cannot hold
	Directories int    `json:"directories"`
	Primaries   int    `json:"primaries"`
	Replicas    int    `json:"replicas"`
}

const (
	nodeLives = "live"
	nodeDead  = "dead"
)

func newMirrorDistribution(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "distribution POOL", Short: "Show how a pool's directories are spread over the site's nodes", Args: takes(1, 1),
		Long: `Distribution counts the directories that the map names each node for: of those that have
none too, and of dead ones until their directories are mapped elsewhere. Directories that
are mapped nowhere yet are in no count.`,
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			pool, err := parsePool(args[0])
			if err != nil {
				return err
			}
			dirs, err := s.listDirectories(ctx, api.PoolFilter{Pool: pool.Pool})
			if err != nil {
				return err
			}
			instances, err := s.instances(ctx)
			if err != nil {
				return err
			}
			shares := distribution(dirs, instances)
			return c.show(shares, func(t *table) {
				t.row("NODE", "PRIMARIES", "REPLICAS", "STATE")
				for _, n := range shares {
					t.row(n.Node, n.Primaries, n.Replicas, n.State)
				}
			})
		}),
	}
}

// distribution counts the directories that each node is named for, by the nodes' names.
func distribution(dirs []api.Directory, instances []api.Instance) []share {
	type seat struct{ node, service string }
	of, live := map[string]share{}, map[seat]bool{}
	for _, i := range instances {
		live[seat{i.Node, i.Service}] = true
		of[i.Node] = share{Node: i.Node, State: nodeLives}
	}
	for _, d := range dirs {
		if d.MappedTo == "" {
			continue
		}
		n := of[d.MappedTo]
		n.Node = d.MappedTo
		n.Directories++
		if d.Role == events.Master {
			n.Primaries++
		} else {
			n.Replicas++
		}
		if !live[seat{d.MappedTo, events.ServiceOf(d.Role)}] {
			n.State = nodeDead
		}
		of[d.MappedTo] = n
	}
	shares := make([]share, 0, len(of))
	for _, node := range slices.Sorted(maps.Keys(of)) {
		shares = append(shares, of[node])
	}
	return shares
}
