package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/overview"
)

// daemon is one node and what it does for the site's pools.
type daemon struct {
	Node      string           `json:"node"`
	Services  []string         `json:"services"`
	Since     events.Instant   `json:"since"` // of the service that runs longest
	Instances []daemonInstance `json:"instances"`
	daemonCounts
	Pools []daemonPool `json:"pools"` // that mirror, or of which it has directories
	// Error is set when a service of the node does not say what it does.
	Error string `json:"error,omitempty"`
}

// daemonInstance is one run of a service of the node.
type daemonInstance struct {
	Service    string         `json:"service"`
	InstanceID string         `json:"instance_id"`
	Since      events.Instant `json:"since"`
}

// daemonCounts count since the node holds what it holds.
type daemonCounts struct {
	Directories int    `json:"directory_count"`
	Failures    uint64 `json:"failure_count"`
	Recoveries  uint64 `json:"recovery_count"`
}

func (c *daemonCounts) add(o daemonCounts) {
	c.Directories += o.Directories
	c.Failures += o.Failures
	c.Recoveries += o.Recoveries
}

// daemonPool is what a node does for one pool.
type daemonPool struct {
	Pool string `json:"pool"`
	daemonCounts
	Peers []api.Peer `json:"peers"` // of the pool
}

func newMirrorDaemons(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "daemons", Short: "List the nodes that follow or own directories at this site", Args: takes(0, 0),
		Long: `Daemons lists each live node with what it holds of each pool, as the node itself says, and how
often it failed to follow for good and followed again since it holds that. A node that has
just started, and says nothing yet, is left out.`,
		RunE: c.request(func(ctx context.Context, s *client, _ []string) error {
			m, err := s.siteMap(ctx)
			if err != nil {
				return err
			}
			b, err := s.connect()
			if err != nil {
				return err
			}
			daemons := daemonsOf(m, overview.AskHolders(ctx, b.Conn(), m.Site.Instances, false))
			return c.show(daemons, func(t *table) {
				t.row("NODE", "SERVICES", "DIRECTORIES", "FAILURES", "RECOVERIES", "SINCE", "ERROR")
				for _, d := range daemons {
					t.row(d.Node, strings.Join(d.Services, " "), d.Directories, d.Failures, d.Recoveries, d.Since.Time().Format(time.RFC3339), d.Error)
				}
			})
		}),
	}
}

// daemonsOf puts the nodes that report together with what they say.
func daemonsOf(m overview.Map, reports overview.Reports) []daemon {
	daemons, counts := []daemon{}, countsOf(m.Directories, reports)
	for _, n := range nodesOf(m.Site.Instances) {
		d := daemon{Node: n.Node, Services: n.Services, Since: n.Since, Instances: []daemonInstance{}, Pools: []daemonPool{}}
		reported := false
		for _, i := range m.Site.Instances {
			if i.Node != n.Node {
				continue
			}
			d.Instances = append(d.Instances, daemonInstance{i.Service, i.Incarnation, i.Since})
			_, heard := reports.Held[[2]string{i.Node, i.Service}]
			reported = reported || heard
			if reports.Hangs(i.Node, i.Service) {
				d.Error = "its " + i.Service + " service does not answer"
			}
		}
		if reported || d.Error != "" {
			d.count(m, counts)
			daemons = append(daemons, d)
		}
	}
	return daemons
}

// place is a pool at a node.
type place struct{ node, pool string }

// countsOf adds up what each node says that it holds of each pool.
func countsOf(dirs []api.Directory, reports overview.Reports) map[place]daemonCounts {
	counts := map[place]daemonCounts{}
	for _, d := range dirs {
		s, heard := reports.Standings[d.ID]
		if !heard {
			continue
		}
		c := counts[place{s.Node, d.Pool}]
		c.add(daemonCounts{1, s.Failures, s.Recoveries})
		counts[place{s.Node, d.Pool}] = c
	}
	return counts
}

// count fills in the pools that a node has something to do with, and their sum.
func (d *daemon) count(m overview.Map, counts map[place]daemonCounts) {
	for _, p := range m.Pools {
		at := daemonPool{Pool: p.Pool, daemonCounts: counts[place{d.Node, p.Pool}], Peers: []api.Peer{}}
		if !p.Mirroring && at.Directories == 0 {
			continue
		}
		for _, peer := range m.Peers {
			if peer.Pool == p.Pool {
				at.Peers = append(at.Peers, peer.Peer)
			}
		}
		d.add(at.daemonCounts)
		d.Pools = append(d.Pools, at)
	}
}
