package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
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
	t.row(d.Name, d.Role, d.MappedTo, d.State, d.Epoch, setting(d.Delay), setting(d.TargetRPO), limitOf(d.Following), at(d.LastShuffled), cmp.Or(d.Reason, d.Error))
	for _, old := range d.OldCopies {
		state := "old copy"
		if !old.Lives {
			state += ", node is gone"
		}
		t.row(d.Name, "", old.Node, state, "", "", "", "", at(old.Since), fmt.Sprintf("about %s; mirror discard deletes it", formatSize(old.Bytes)))
	}
}

// at shows a time; none as nothing.
func at(t api.UnixTime) string {
	if t == 0 {
		return ""
	}
	return time.UnixMilli(int64(t * 1000)).UTC().Format(time.RFC3339)
}

func newMirrorDiscard(c *cli) *cobra.Command {
	var node string
	cmd := &cobra.Command{
		Use: "discard POOL/DIR --node NODE", Short: "Delete the copy that a node kept when a replica left it", Args: takes(1, 1),
		Long: `A replica that goes to another node leaves its copy behind: until the new one is complete
it is the only one, and if the replica comes back it goes on from there. It takes its space
until the directory is removed here, or this says that it may go. dirmap shows old copies.

The node deletes it only if another node of the site holds the directory, follows its primary,
and has all that is in it; and if no conflict images are kept beside it. Else it stays, and
the error says why. The copy in use, and one at a site that is primary, are never deleted.`,
		RunE: c.requestDirectory(func(ctx context.Context, s *client, name events.DirectoryName) error {
			if node == "" {
				return fault.New(fault.Usage, "say whose copy: --node NODE")
			}
			d, err := call[api.Directory](ctx, s, api.MirrorDiscard, api.Discard{DirectoryName: name, Node: node})
			if err != nil {
				return err
			}
			return c.show(d, func(t *table) { dirmapRows(t, d) })
		}),
	}
	cmd.Flags().StringVar(&node, "node", "", "the `node` that keeps the old copy")
	return cmd
}

// share is what one node has of a pool.
type share struct {
	Node        string `json:"node"`
	State       string `json:"state"` // live, or dead: something is mapped to it that it cannot hold
	Directories int    `json:"directories"`
	Primaries   int    `json:"primaries"`
	Replicas    int    `json:"replicas"`
	// OldCopies are those of directories that have left the node, of about so many bytes.
	OldCopies     int    `json:"old_copies,omitempty"`
	OldCopiesSize uint64 `json:"old_copies_bytes,omitempty"`
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
				distributionRows(t, shares)
			})
		}),
	}
}

// distributionRows shows old copies only where there are any.
func distributionRows(t *table, shares []share) {
	old := slices.ContainsFunc(shares, func(n share) bool { return n.OldCopies > 0 })
	row := func(oldCopies string, cells ...any) {
		if old {
			cells = append(cells, oldCopies)
		}
		t.row(cells...)
	}
	row("OLD COPIES", "NODE", "PRIMARIES", "REPLICAS", "STATE")
	for _, n := range shares {
		row(fmt.Sprintf("%d, about %s", n.OldCopies, formatSize(n.OldCopiesSize)), n.Node, n.Primaries, n.Replicas, n.State)
	}
}

// addOldCopies adds up what nodes keep that live, or have a share.
func addOldCopies(of map[string]share, dirs []api.Directory) {
	for _, d := range dirs {
		for _, old := range d.OldCopies {
			if n, shown := of[old.Node]; shown {
				n.OldCopies++
				n.OldCopiesSize += old.Bytes
				of[old.Node] = n
			}
		}
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
	addOldCopies(of, dirs)
	shares := make([]share, 0, len(of))
	for _, node := range slices.Sorted(maps.Keys(of)) {
		shares = append(shares, of[node])
	}
	return shares
}
