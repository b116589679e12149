package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/overview"
)

const (
	// directoriesShown is up to how many directories a site has for all of them to be shown
	// to a person; of a larger one, those are that need attention.
	directoriesShown = 20
	// worriesShown bounds the lines about what needs attention.
	worriesShown = 20
)

// siteStatus is what `status` shows: what needs attention first.
type siteStatus struct {
	Attention   []overview.Attention `json:"attention"`
	Site        siteName             `json:"site"`
	Nodes       []nodeStatus         `json:"nodes"`
	Pools       []api.Pool           `json:"pools"`
	Directories []overview.Line      `json:"directories"`
	Peers       []overview.PoolPeer  `json:"peers"`
	// FromLog is set when no policy service answered: what is shown is what it left in
	// the log, and what the holders of directories say.
	FromLog bool `json:"from_log,omitempty"`
	// brief: the directories that are well are left out.
	brief bool
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

func newStatus(c *cli) *cobra.Command {
	var everything, check bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show the whole site at a glance, what needs attention first", Args: takes(0, 0),
		Long: fmt.Sprintf(`Status shows first what needs attention, with its reason and what helps; then the site, its
nodes, pools, directories and peers. Of a site with more than %d directories only those
that need attention are shown, and each pool says how many it has; --all shows all of them,
and so does -o json.

--check is for monitoring: it prints one line, and exits with 0 when nothing needs
attention, with 5 when something does, and with 6 when nobody answers.`, directoriesShown),
		RunE: c.request(func(ctx context.Context, s *client, _ []string) error {
			status, err := s.status(ctx, everything || c.output == outputJSON && !check)
			switch {
			case err != nil:
				return err
			case !check:
				return c.show(status, status.table)
			}
			if err := status.verdict(); err != nil {
				return err
			}
			return c.showDone("checked", status.Site.Name)
		}),
	}
	cmd.Flags().BoolVar(&everything, "all", false, "show every directory, also those that are well")
	cmd.Flags().BoolVar(&check, "check", false, "say in one line, and by the exit code, whether anything needs attention")
	return cmd
}

// status asks for the site: for everything, or for what is unusual in it.
func (s *client) status(ctx context.Context, everything bool) (siteStatus, error) {
	if !everything {
		if status, complete, err := s.briefStatus(ctx); complete && err == nil {
			return status, nil
		}
	}
	m, err := s.siteMap(ctx)
	if err != nil {
		return siteStatus{}, err
	}
	lines, reports := s.lines(ctx, m.Directories, m.Site.Instances)
	status := statusOf(m, lines, reports, s.fromLog)
	status.brief = !everything && len(m.Directories) > directoriesShown
	return status, nil
}

// briefStatus asks for what is unusual. It is not complete where everything is to be shown,
// or has to be looked at.
func (s *client) briefStatus(ctx context.Context) (status siteStatus, complete bool, err error) {
	b, err := s.connect()
	if err != nil {
		return status, false, err
	}
	brief, complete, err := overview.AskBrief(ctx, b.Conn())
	directories := 0
	for _, p := range brief.Pools {
		directories += p.Directories
	}
	if err != nil || directories <= directoriesShown {
		return status, false, err
	}
	status = statusOf(brief.Map, brief.Lines, brief.Reports, false)
	status.brief = true
	return status, complete, nil
}

func statusOf(m overview.Map, lines []overview.Line, reports overview.Reports, fromLog bool) siteStatus {
	status := siteStatus{
		Site: siteName{m.Site.Name, m.Site.UUID, m.Site.Number}, Nodes: nodesOf(m.Site.Instances),
		Pools: list(m.Pools), Peers: list(m.Peers), Directories: list(lines), FromLog: fromLog,
	}
	status.Attention = status.worries(append(reports.Worries(), m.Worries(time.Now())...))
	return status
}

// lines says how directories are: by the reports of the site's holders, and for what is in
// none of them by asking for that directory alone. Without instances nobody reports.
func (s *client) lines(ctx context.Context, directories []api.Directory, instances []api.Instance) ([]overview.Line, overview.Reports) {
	var reports overview.Reports
	if b, err := s.connect(); err == nil && len(instances) > 0 {
		reports = overview.AskHolders(ctx, b.Conn(), instances, false)
	}
	lines := reports.Lines(directories)
	var missing []api.Directory
	var at []int
	for i, d := range directories {
		switch _, heard := reports.Standings[d.ID]; {
		case heard:
		case reports.Hangs(d.Node, events.ServiceOf(d.Role)):
			lines[i].Mirror = overview.Unheld(d, errHang, false)
		default:
			missing, at = append(missing, d), append(at, i)
		}
	}
	for i, a := range askHolders[api.Status](ctx, s, missing, api.DirectoryStatus) {
		if a.err != nil {
			lines[at[i]].Mirror = unheld(a.directory, a.err)
			continue
		}
		lines[at[i]] = overview.LineOf(a.directory, &a.reply)
	}
	return lines, reports
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
	shown := a.Attention
	if a.brief {
		shown = shown[:min(len(shown), worriesShown)]
	}
	for _, w := range shown {
		t.row("ATTENTION", w.What, w.Message, w.Do)
	}
	if more := len(a.Attention) - len(shown); more > 0 {
		t.row("ATTENTION", fmt.Sprintf("and %d more", more), "", "tidemark status --all")
	}
	if len(a.Attention) > 0 {
		t.gap()
	}
	t.row("site:", a.Site.Name, a.Site.UUID)
	for _, n := range a.Nodes {
		t.row("node:", n.Node, strings.Join(n.Services, " "), "since "+n.Since.Time().Format(time.RFC3339))
	}
	t.gap()
	a.poolRows(t)
	a.directoryRows(t)
	if len(a.Peers) > 0 {
		t.gap()
		t.row("PEER", "POOL", "DIRECTION", "URL")
		for _, p := range a.Peers {
			t.row(p.Site, p.Pool, p.Direction, redact(p.URL))
		}
	}
}

// poolRows says how many directories of each pool are well.
func (a siteStatus) poolRows(t *table) {
	unusual := map[string]int{}
	for _, d := range a.Directories {
		if len(d.Worries()) > 0 {
			unusual[d.Pool()]++
		}
	}
	t.row("POOL", "MIRRORING", "DIRECTORIES", "UNUSUAL", "PEERS")
	for _, p := range a.Pools {
		t.row(p.Pool, onOff(p.Mirroring), p.Directories, unusual[p.Pool], p.Peers)
	}
}

func (a siteStatus) directoryRows(t *table) {
	shown := a.Directories
	if a.brief {
		shown = slices.DeleteFunc(slices.Clone(shown), func(d overview.Line) bool { return len(d.Worries()) == 0 })
		shown = shown[:min(len(shown), directoriesShown)]
	}
	if len(shown) == 0 {
		return
	}
	t.gap()
	t.row("DIRECTORY", "ROLE", "PRIMARY", "STATE", "POSITION", "BEHIND", "NODE", "DURABILITY", "JOURNAL")
	for _, d := range shown {
		t.row(d.Directory, d.Role, d.Primary, d.ShownState(), d.Position, overview.Behind(d.Lag), d.Node, d.Durability, formatSize(d.Bytes))
	}
}
