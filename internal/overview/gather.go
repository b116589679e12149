package overview

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/api"
)

// reportTime is how long a holder may take to report: one that hangs must not hide the others.
const reportTime = 2 * time.Second

// askedAtOnce bounds the questions that wait for an answer.
const askedAtOnce = 32

// PoolPeer is a site that shares a pool.
type PoolPeer struct {
	Pool string `json:"pool"`
	api.Peer
}

// Map is what policy knows of a site.
type Map struct {
	Site        api.Site
	Pools       []api.Pool
	Peers       []PoolPeer
	Directories []api.Directory
	Webhooks    []api.Webhook // as the notifier has them
}

// ask fills in everything but the directories.
func ask(ctx context.Context, nc *nats.Conn) (m Map, err error) {
	if m.Site, err = api.CallParts[api.Site](ctx, nc, api.SiteInfo, api.Nothing{}); err != nil {
		return m, err
	}
	if m.Pools, err = api.CallParts[[]api.Pool](ctx, nc, api.PoolList, api.Nothing{}); err != nil {
		return m, err
	}
	hooks := make(chan []api.Webhook, 1)
	go func() { hooks <- askWebhooks(ctx, nc) }()
	defer func() { m.Webhooks = <-hooks }()
	lists := make([][]api.Peer, len(m.Pools))
	failures := make([]error, len(m.Pools))
	inParallel(len(m.Pools), func(i int) {
		if m.Pools[i].Peers > 0 {
			lists[i], failures[i] = api.CallParts[[]api.Peer](ctx, nc, api.PeerList, api.Pool{Pool: m.Pools[i].Pool})
		}
	})
	for i, p := range m.Pools {
		if failures[i] != nil {
			return m, failures[i]
		}
		m.Peers = append(m.Peers, PeersOf(p.Pool, lists[i])...)
	}
	return m, nil
}

// AskMap asks policy for everything that it knows.
func AskMap(ctx context.Context, nc *nats.Conn) (Map, error) {
	m, err := ask(ctx, nc)
	if err != nil {
		return m, err
	}
	m.Directories, err = api.CallParts[[]api.Directory](ctx, nc, api.DirectoryList, api.PoolFilter{})
	return m, err
}

// PeersOf says of which pool peers are.
func PeersOf(pool string, peers []api.Peer) []PoolPeer {
	all := make([]PoolPeer, len(peers))
	for i, p := range peers {
		all[i] = PoolPeer{pool, p}
	}
	return all
}

// Reports are what the holders of a site say, and who of them said nothing.
type Reports struct {
	Standings map[events.DirectoryID]api.Standing
	Held      map[[2]string]int // how many each has in all, by node and service
	Silent    []Silence
}

// Silence is a holder that gave no report, and why.
type Silence struct {
	api.Instance
	Err error
}

// AskHolders asks every holder for its report; unusual leaves out what is well.
func AskHolders(ctx context.Context, nc *nats.Conn, instances []api.Instance, unusual bool) Reports {
	holders := slices.DeleteFunc(slices.Clone(instances), func(i api.Instance) bool {
		return i.Service != events.ServiceJournal && i.Service != events.ServiceReplayer
	})
	reports := make([]api.Report, len(holders))
	failures := make([]error, len(holders))
	inParallel(len(holders), func(i int) {
		within, cancel := context.WithTimeout(ctx, reportTime)
		defer cancel()
		subject := api.ReportSubject(holders[i].Node, holders[i].Service)
		reports[i], failures[i] = api.CallParts[api.Report](within, nc, subject, api.ReportRequest{Unusual: unusual})
	})
	all := Reports{Standings: map[events.DirectoryID]api.Standing{}, Held: map[[2]string]int{}}
	for i, r := range reports {
		if failures[i] != nil {
			all.Silent = append(all.Silent, Silence{holders[i], failures[i]})
			continue
		}
		all.Held[[2]string{holders[i].Node, holders[i].Service}] = r.Held
		for _, d := range r.Directories {
			all.add(d)
		}
	}
	return all
}

// add keeps the later word on a directory that two holders name while it moves.
func (r *Reports) add(d api.Standing) {
	if known, twice := r.Standings[d.ID]; !twice || known.Position.Position <= d.Position.Position {
		r.Standings[d.ID] = d
	}
}

// Lines puts the map and the reports together, in the order of the map.
func (r Reports) Lines(directories []api.Directory) []Line {
	lines := make([]Line, len(directories))
	for i, d := range directories {
		if s, heard := r.Standings[d.ID]; heard {
			lines[i] = LineOf(d, &s.Status)
		} else {
			lines[i] = LineOf(d, nil)
		}
	}
	return lines
}

// Worries tells of the holders that gave no report.
func (r Reports) Worries() []Worry {
	var found []Worry
	for _, s := range r.Silent {
		if !api.Nobody(s.Err) {
			found = append(found, Worry{Broken, Attention{
				s.Node, "its " + s.Service + " service does not say how its directories are", "look at node " + s.Node + " and its log",
			}})
		}
	}
	return found
}

// Brief is a site without the directories that are well.
type Brief struct {
	Map
	Reports Reports
	Lines   []Line // of what is unusual, by name
}

// AskBrief asks for what is unusual. complete is false when the holders do not have what the
// map says that they have: then only the whole site tells which directories that is about.
func AskBrief(ctx context.Context, nc *nats.Conn) (b Brief, complete bool, err error) {
	if b.Map, err = ask(ctx, nc); err != nil {
		return b, false, err
	}
	reported := make(chan Reports, 1)
	go func() { reported <- AskHolders(ctx, nc, b.Site.Instances, true) }()
	summary, err := api.CallParts[api.Summary](ctx, nc, api.DirectorySummary, api.Nothing{})
	b.Reports = <-reported
	if err != nil {
		return b, false, fmt.Errorf("ask for what is unusual: %w", err)
	}
	b.Lines = b.Reports.Lines(summary.Unusual)
	named := map[events.DirectoryID]bool{}
	for _, d := range summary.Unusual {
		named[d.ID] = true
	}
	for id, s := range b.Reports.Standings {
		if !named[id] {
			b.Lines = append(b.Lines, LineOfStanding(s))
		}
	}
	sortLines(b.Lines)
	return b, b.Reports.cover(summary), nil
}

// cover reports whether the holders that reported have at least what the map says that they
// have, and those that did not are still there.
func (r Reports) cover(s api.Summary) bool {
	return !slices.ContainsFunc(s.Held, func(h api.Held) bool {
		return r.Held[[2]string{h.Node, h.Service}] < h.Directories && !r.Hangs(h.Node, h.Service)
	})
}

// Hangs reports whether a holder took the question and did not answer in time.
func (r Reports) Hangs(node, service string) bool {
	return slices.ContainsFunc(r.Silent, func(s Silence) bool {
		return s.Node == node && s.Service == service && !api.Nobody(s.Err)
	})
}

func inParallel(n int, f func(i int)) {
	slots := make(chan struct{}, askedAtOnce)
	var running sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	running.Wait()
}
