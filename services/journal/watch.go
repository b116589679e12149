package journal

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/holder"
	"tidemark/internal/lineage"
)

const (
	// watchAge is how often the pools' peers are asked what they are.
	watchAge = 3 * time.Second
	// watchTime bounds the questions to one peer about one pool.
	watchTime = 5 * time.Second
	// watchesAtOnce bounds how many peers are asked at a time, and each about how many
	// directories.
	watchesAtOnce = 16
)

// watch looks for other primaries of the directories that are owned here, and for copies
// whose history has parted from theirs. It only tells: who is right, an operator knows.
type watch struct {
	service *Service
	conns   map[string]*nats.Conn // by URL
}

// run looks around until ctx ends.
func (w *watch) run(ctx context.Context) error {
	defer w.close(func(string) bool { return true })
	tick := time.NewTicker(watchAge)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.look(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// survey is a peer, and the directories of one pool that it is asked about.
type survey struct {
	peer        events.PeerAdded
	directories []*directory
}

// look asks every peer once. One that does not answer changes nothing.
func (w *watch) look(ctx context.Context) {
	surveys := w.surveys()
	w.close(func(url string) bool {
		return !slices.ContainsFunc(surveys, func(s survey) bool { return s.peer.URL == url })
	})
	var group errgroup.Group
	group.SetLimit(watchesAtOnce)
	for _, s := range surveys {
		conn := w.connect(s.peer)
		if conn == nil {
			continue
		}
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, watchTime)
			defer cancel()
			if err := w.ask(ctx, conn, s); err != nil {
				w.service.deps.Log.Debug("peer not watched", "site", s.peer.Site, "error", err)
			}
			return nil
		})
	}
	_ = group.Wait() // each has logged its own
}

// surveys lists whom to ask about what, and forgets what was seen of those who are no
// peers any more.
func (w *watch) surveys() []survey {
	pools := map[string][]*directory{}
	for _, d := range w.service.held() {
		if state, _ := d.condition(); state.serves() {
			pools[d.name.Pool] = append(pools[d.name.Pool], d)
		}
	}
	var all []survey
	for pool, directories := range pools {
		peers := w.service.clients.Peers.Receivable(pool)
		for _, d := range directories {
			d.keepSplits(func(peer string) bool {
				return slices.ContainsFunc(peers, func(p events.PeerAdded) bool { return p.Peer == peer })
			})
		}
		for _, peer := range peers {
			all = append(all, survey{peer, directories})
		}
	}
	return all
}

// connect returns a connection to a peer; nil while there is none.
func (w *watch) connect(peer events.PeerAdded) *nats.Conn {
	if conn := w.conns[peer.URL]; conn != nil {
		return conn
	}
	log := w.service.deps.Log.With("site", peer.Site)
	options, err := w.service.deps.Dialer.Options(peer)
	if err != nil {
		log.Debug("peer not watched", "error", err)
		return nil
	}
	conn, err := nats.Connect(peer.URL, append(options, nats.Name("tidemark watch of "+w.service.deps.Node.Site.Name), nats.Timeout(watchTime),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(watchAge), nats.IgnoreAuthErrorAbort(),
		bus.Reporting(log))...)
	if err != nil {
		log.Debug("peer not watched", "error", err)
		return nil
	}
	w.conns[peer.URL] = conn
	return conn
}

// close ends the connections to those who are not watched any more.
func (w *watch) close(unwatched func(url string) bool) {
	for url, conn := range w.conns {
		if unwatched(url) {
			conn.Close()
			delete(w.conns, url)
		}
	}
}

// ask looks at what a peer has of directories.
func (w *watch) ask(ctx context.Context, conn *nats.Conn, s survey) error {
	pool := s.directories[0].name.Pool
	list, err := api.CallParts[[]api.Directory](ctx, conn, api.SharedList(pool), api.PoolFilter{Pool: pool})
	if err != nil {
		return fmt.Errorf("list its directories: %w", err)
	}
	var group errgroup.Group
	group.SetLimit(watchesAtOnce)
	for _, d := range s.directories {
		i := slices.IndexFunc(list, func(there api.Directory) bool { return there.Path == d.name.Path })
		if i < 0 {
			d.setSplit(ctx, s.peer, nil)
			continue
		}
		at := holder.Holding{Conn: conn, Directory: list[i].ID, Peer: s.peer, Self: w.service.deps.Node.Site.UUID}
		group.Go(func() error {
			if err := d.compare(ctx, at, list[i].Role == events.Master); err != nil {
				d.log.Debug("directory not watched", "site", s.peer.Site, "error", err)
			}
			return nil
		})
	}
	return group.Wait()
}

// compare compares the directory's history with that of a peer's copy.
func (d *directory) compare(ctx context.Context, at holder.Holding, primary bool) error {
	l, err := d.current()
	if err != nil {
		return err
	}
	theirs, err := at.History(ctx, holder.HistoryOf(l.replica))
	if err != nil {
		return err
	}
	self := d.service.deps.Node.Site
	parting := holder.Parting{
		Self: self, Name: d.name, Replica: l.replica, Journal: l.log, Primary: true,
		Ours: holder.HistoryOf(l.replica), Theirs: theirs, TheirsPrimary: primary && holder.Owns(theirs, at.Peer.Peer),
	}
	parting.Relation = lineage.Compare(parting.Ours, theirs)
	if !splitBrain(parting.Relation, parting.TheirsPrimary, self.UUID, at.Peer.Peer) {
		d.setSplit(ctx, at.Peer, nil)
		return nil
	}
	d.setSplit(ctx, at.Peer, parting.Describe(ctx, at))
	return nil
}

// splitBrain decides, at a primary, whether a peer's copy is a split brain: it is primary
// too, or it holds entries that are not of this history. Between the two looks that
// relation is from, the directory may have been handed over; claims alone a follower gives
// up by itself; and another life of the name is another directory.
func splitBrain(r lineage.Relation, primary bool, self, peer string) bool {
	switch r.Kind {
	case lineage.Diverged:
		return primary || !r.Theirs.ClaimsOnly() || !r.Exact
	case lineage.Ahead:
		return primary && !handedOver(r.Ours.Tags, peer)
	case lineage.Behind:
		return primary && !handedOver(r.Theirs.Tags, self)
	case lineage.Unknown:
		return primary
	case lineage.Same, lineage.OtherLife:
	}
	return false
}

// handedOver reports whether tags begin with a demotion by a site, be it after other
// claims of its own.
func handedOver(tags []events.TagClaimed, site string) bool {
	for _, t := range tags {
		if t.Site != site {
			return false
		}
		if t.Reason == events.TagDemoted {
			return true
		}
	}
	return false
}

// setSplit notes what is so with a peer; nil: nothing is wrong. Listeners are told once as a
// split brain begins and once as it ends, whatever owner saw it first.
func (d *directory) setSplit(ctx context.Context, peer events.PeerAdded, split *api.Split) {
	d.mu.Lock()
	was, seen := d.splits[peer.Peer]
	d.splits[peer.Peer] = split
	d.mu.Unlock()
	switch {
	case was == nil && split != nil:
		d.log.Error("split brain", "site", split.Peer, "parted", split.Common.String())
		d.noteWith(peer.Site, events.Diverged, events.Mark{Position: split.Common}, holder.Summary(split))
	case was != nil && split == nil:
		d.log.Info("the split brain is resolved", "site", was.Peer)
		d.noteWith(peer.Site, events.Reunited, events.Mark{}, "")
	case !seen && d.lasts(ctx, peer.Site, events.Diverged):
		d.noteWith(peer.Site, events.Reunited, events.Mark{}, "")
	}
}

// keepSplits forgets what was seen of peers that are not to be kept.
func (d *directory) keepSplits(keep func(peer string) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for peer := range d.splits {
		if !keep(peer) {
			delete(d.splits, peer)
		}
	}
}

// split returns the split brain that the directory is in, nil if it is in none. Of several
// it is that with the first site, by name.
func (d *directory) split() *api.Split {
	d.mu.Lock()
	defer d.mu.Unlock()
	var first *api.Split
	for _, s := range d.splits {
		if s != nil && (first == nil || s.Peer < first.Peer) {
			first = s
		}
	}
	return first
}
