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

// siteStatus is what `status` shows: what needs attention first.
type siteStatus struct {
	Attention   []attention     `json:"attention"`
	Site        siteName        `json:"site"`
	Nodes       []nodeStatus    `json:"nodes"`
	Pools       []api.Pool      `json:"pools"`
	Directories []directoryLine `json:"directories"`
	Peers       []poolPeer      `json:"peers"`
	// FromLog is set when no policy service answered: what is shown is what it left in
	// the log, and what the holders of directories say.
	FromLog bool `json:"from_log,omitempty"`
}

type siteName struct {
	Name   string `json:"name"`
	UUID   string `json:"uuid"`
	Number uint16 `json:"number"`
}

type nodeStatus struct {
	Node     string         `json:"node"`
	Services []string       `json:"services"`
	Since    events.Instant `json:"since"` // of the service that runs longest
}

type directoryLine struct {
	mirrorState
	Mapping    string `json:"mapping"`
	Durability string `json:"durability"`
	Bytes      uint64 `json:"journal_bytes"`
	BytesLimit uint64 `json:"journal_limit_bytes"`
}

type poolPeer struct {
	Pool string `json:"pool"`
	api.Peer
}

func newStatus(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the whole site at a glance, what needs attention first", Args: takes(0, 0),
		RunE: c.request(func(ctx context.Context, s *client, _ []string) error {
			all, err := s.status(ctx)
			if err != nil {
				return err
			}
			return c.show(all, all.table)
		}),
	}
}

func (s *client) status(ctx context.Context) (siteStatus, error) {
	m, err := s.siteMap(ctx)
	if err != nil {
		return siteStatus{}, err
	}
	all := siteStatus{
		Site: siteName{m.site.Name, m.site.UUID, m.site.Number}, Nodes: nodesOf(m.site.Instances),
		Pools: list(m.pools), Peers: list(m.peers), Directories: []directoryLine{}, FromLog: s.fromLog,
	}
	for _, a := range askHolders[api.Status](ctx, s, m.directories, api.DirectoryStatus) {
		line := directoryLine{mirrorState: unheldOr(a), Mapping: a.directory.State}
		line.Durability, line.Bytes, line.BytesLimit = a.reply.Durability, a.reply.Bytes, a.reply.BytesLimit
		all.Directories = append(all.Directories, line)
	}
	all.Attention = all.worries()
	return all, nil
}

func unheldOr(a answer[api.Status]) mirrorState {
	if a.err != nil {
		return unheld(a.directory, a.err)
	}
	return mirrored(a.directory, a.reply)
}

// nodesOf groups instances by node, in the order of the nodes' names.
func nodesOf(instances []api.Instance) []nodeStatus {
	nodes := map[string]*nodeStatus{}
	for _, i := range instances {
		n := nodes[i.Node]
		if n == nil {
			n = &nodeStatus{Node: i.Node, Since: i.Since}
			nodes[i.Node] = n
		}
		n.Services = append(n.Services, i.Service)
		n.Since = min(n.Since, i.Since)
	}
	sorted := make([]nodeStatus, 0, len(nodes))
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		slices.Sort(nodes[name].Services)
		sorted = append(sorted, *nodes[name])
	}
	return sorted
}

func (a siteStatus) table(t *table) {
	for _, w := range a.Attention {
		t.row("ATTENTION", w.What, w.Message, w.Do)
	}
	if len(a.Attention) > 0 {
		t.gap()
	}
	t.row("site:", a.Site.Name, a.Site.UUID)
	for _, n := range a.Nodes {
		t.row("node:", n.Node, strings.Join(n.Services, " "), "since "+n.Since.Time().Format(time.RFC3339))
	}
	t.gap()
	poolRows(t, a.Pools...)
	if len(a.Directories) > 0 {
		t.gap()
		t.row("DIRECTORY", "ROLE", "PRIMARY", "STATE", "POSITION", "BEHIND", "NODE", "DURABILITY", "JOURNAL")
		for _, d := range a.Directories {
			t.row(d.Directory, d.Role, d.Primary, d.shownState(), d.Position, behind(d.Lag), d.Node, d.Durability, formatSize(d.Bytes))
		}
	}
	if len(a.Peers) > 0 {
		t.gap()
		t.row("PEER", "POOL", "DIRECTION", "URL")
		for _, p := range a.Peers {
			t.row(p.Site, p.Pool, p.Direction, redact(p.URL))
		}
	}
}

// shownState is "ready" rather than "stopped" for a primary that works.
func (d directoryLine) shownState() string {
	if d.State == mirrorSplit {
		return d.State
	}
	if _, state, found := strings.Cut(d.Description, ": "); found {
		return state
	}
	return d.State
}
