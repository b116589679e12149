package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
)

// lagWorthTelling is how many seconds a replica may be behind before it needs attention.
const lagWorthTelling = 10

// siteStatus is what `status` shows: what needs attention first.
type siteStatus struct {
	Attention   []attention     `json:"attention"`
	Site        siteName        `json:"site"`
	Nodes       []nodeStatus    `json:"nodes"`
	Pools       []api.Pool      `json:"pools"`
	Directories []directoryLine `json:"directories"`
	Peers       []poolPeer      `json:"peers"`
}

// attention is something that an operator should look at.
type attention struct {
	What    string `json:"what"`
	Message string `json:"message"`
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
	var all siteStatus
	site, err := call[api.Site](ctx, s, api.SiteInfo, api.Nothing{})
	if err != nil {
		return all, err
	}
	all.Site = siteName{site.Name, site.UUID, site.Number}
	all.Nodes = nodesOf(site.Instances)
	pools, err := call[[]api.Pool](ctx, s, api.PoolList, api.Nothing{})
	if err != nil {
		return all, err
	}
	all.Pools, all.Peers, all.Directories = list(pools), []poolPeer{}, []directoryLine{}
	for _, p := range pools {
		if p.Peers == 0 {
			continue
		}
		peers, err := call[[]api.Peer](ctx, s, api.PeerList, api.Pool{Pool: p.Pool})
		if err != nil {
			return all, err
		}
		for _, peer := range peers {
			all.Peers = append(all.Peers, poolPeer{p.Pool, peer})
		}
	}
	dirs, err := call[[]api.Directory](ctx, s, api.DirectoryList, api.PoolFilter{})
	if err != nil {
		return all, err
	}
	for _, a := range askHolders[api.Status](ctx, s, dirs, api.DirectoryStatus) {
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

// worries lists what needs attention: errors, then directories that nobody serves or
// that are not ready, then lag and full journals.
func (a siteStatus) worries() []attention {
	type ranked struct {
		rank int
		attention
	}
	var found []ranked
	note := func(rank int, what, format string, args ...any) {
		found = append(found, ranked{rank, attention{what, fmt.Sprintf(format, args...)}})
	}
	if len(a.Nodes) == 0 {
		note(0, "site", "no node is alive: does the notifier service run?")
	}
	for _, d := range a.Directories {
		switch {
		case d.State == mirrorError || d.State == mirrorSplit:
			note(0, d.Directory, "%s: %s", d.State, d.Error)
		case d.Error != "":
			note(1, d.Directory, "%s: %s", d.State, d.Error)
		case d.State == mirrorStalled:
			note(1, d.Directory, "no node holds it")
		case d.Mapping != mapped:
			note(2, d.Directory, "it is not where it should be yet: %s", d.Mapping)
		}
		if d.Lag.Seconds > lagWorthTelling {
			note(3, d.Directory, "%s behind its primary (%s)", seconds(d.Lag.Seconds), behind(d.Lag))
		}
		if d.BytesLimit > 0 && d.Bytes > d.BytesLimit/10*9 {
			note(3, d.Directory, "its journal is almost full: %s of %s", formatSize(d.Bytes), formatSize(d.BytesLimit))
		}
	}
	slices.SortStableFunc(found, func(x, y ranked) int { return cmp.Compare(x.rank, y.rank) })
	worries := make([]attention, 0, len(found))
	for _, f := range found {
		worries = append(worries, f.attention)
	}
	return worries
}

func (a siteStatus) table(t *table) {
	for _, w := range a.Attention {
		t.row("ATTENTION", w.What, w.Message)
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
