package policy

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/peers"
	"tidemark/internal/site"
	"tidemark/internal/turns"
)

// Deps is what the service needs from outside.
type Deps struct {
	Bus     *bus.Bus
	Node    site.Node
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: metrics are kept, nobody collects them
	Dialer  peers.Dialer          // how other sites are come in at
}

// Service is the policy service.
type Service struct {
	bus     *bus.Bus
	node    site.Node
	dialer  peers.Dialer
	log     *slog.Logger
	metrics *metrics
	ready   chan struct{}
	// measured is closed once it is known what directories amount to.
	measured chan struct{}
	// work wakes the steering: a directory must be looked at.
	work chan struct{}
	// publishing holds a token while nobody publishes: a fact is decided, published and
	// folded by one goroutine at a time. It is never held while another site is reached.
	publishing chan struct{}

	mu      sync.Mutex // protects what follows; never held during I/O
	state   *State
	folded  map[string]uint64 // last sequence folded, by stream
	changed chan struct{}     // closed at the next change of state
	// stale holds the directories whose decision may have changed, and wakes those that
	// must be looked at again at a time, in Unix nanoseconds.
	stale map[events.DirectoryID]bool
	wakes map[events.DirectoryID]events.Instant
	// uneven is set when directories may have to move for the sake of balance, and rebalance
	// is when that must be looked at again; zero is never. It was looked at last when balanced
	// says.
	uneven              bool
	rebalance, balanced events.Instant
	// unassigned holds the directories of which listeners were told that no live node can
	// hold them.
	unassigned map[events.DirectoryID]bool
	notes      *turns.Outbox
}

// New returns a service that does nothing before Run.
func New(d Deps) *Service {
	s := &Service{
		bus: d.Bus, node: d.Node, dialer: d.Dialer, log: d.Log.With("service", "policy"),
		ready:      make(chan struct{}),
		measured:   make(chan struct{}),
		work:       make(chan struct{}, 1),
		publishing: make(chan struct{}, 1),
		state:      NewState(),
		folded:     map[string]uint64{},
		changed:    make(chan struct{}),
		stale:      map[events.DirectoryID]bool{},
		wakes:      map[events.DirectoryID]events.Instant{},
		unassigned: map[events.DirectoryID]bool{},
		notes:      turns.NewOutbox(d.Bus, d.Log),
	}
	s.metrics = newMetrics(d.Metrics, s.count)
	s.publishing <- struct{}{}
	return s
}

// Ready is closed once the streams are folded and requests are answered.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// streams returns what the state is folded from.
func streams() []string {
	return []string{events.StreamPools, events.StreamDirectories, events.StreamInstances, events.StreamNotifications}
}

// Run runs the service until ctx ends, which is no error.
//
//	POOLS ─────────┐                     ┌──► steer ─► Decide ─► DirectoryMapped, …  ─► DIRECTORIES
//	DIRECTORIES ───┤                     │                       AcquireRequested, … ─► NOTIFICATIONS
//	INSTANCES ─────┼─► follow ─► State ──┤
//	NOTIFICATIONS ─┘                     └──► requests ─► check ─► the intention ─► POOLS, DIRECTORIES
//	                                              │
//	                                              └─► import: the other site
func (s *Service) Run(ctx context.Context) error {
	defer s.notes.Start(ctx)()
	if err := s.bus.EnsureStreams(ctx, events.SiteStreams()); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, stream := range streams() {
		from, err := s.begin(gctx, stream)
		if err != nil {
			return fmt.Errorf("policy: %w", err)
		}
		g.Go(func() error { return s.follow(gctx, stream, from) })
	}
	g.Go(func() error { return s.watchMeasures(gctx) })
	g.Go(func() error { return s.serve(gctx) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("policy: %w", err)
	}
	return nil
}

// serve answers requests and steers directories, once the state is the log's.
func (s *Service) serve(ctx context.Context) error {
	for _, stream := range streams() {
		if err := s.catchUp(ctx, stream); err != nil {
			return err
		}
	}
	select {
	case <-s.measured:
	case <-ctx.Done():
		return nil
	}
	stop, err := api.Serve(ctx, s.bus.Conn(), s.log, s.handlers()...)
	if err != nil {
		return fmt.Errorf("answer requests: %w", err)
	}
	defer stop()
	close(s.ready)
	s.log.Info("policy serves")
	s.steer(ctx)
	return nil
}

// handlers lists what the service answers.
func (s *Service) handlers() []api.Handler {
	return []api.Handler{
		api.On(api.SiteInfo, s.siteInfo),
		api.On(api.PoolCreate, s.poolCreate),
		api.On(api.PoolList, s.poolList),
		api.On(api.PoolRemove, s.poolRemove),
		api.On(api.DirectoryCreate, s.directoryCreate),
		api.On(api.DirectoryResolve, s.directoryResolve),
		api.On(api.DirectoryList, s.directoryList),
		api.On(api.DirectorySummary, s.directorySummary),
		api.On(api.DirectoryRemove, s.directoryRemove),
		api.OnShared(api.SharedResolves, func(r events.DirectoryName) string { return r.Pool }, s.directoryResolve),
		api.OnShared(api.SharedLists, func(r api.PoolFilter) string { return r.Pool }, s.directoryList),
		api.On(api.MirrorEnable, s.mirrorEnable),
		api.On(api.MirrorDisable, s.mirrorDisable),
		api.On(api.MirrorAdd, s.mirrorAdd),
		api.On(api.MirrorRemove, s.mirrorRemove),
		api.On(api.MirrorPromote, s.mirrorPromote),
		api.On(api.MirrorDemote, s.mirrorDemote),
		api.On(api.MirrorResync, s.mirrorResync),
		api.On(api.MirrorSet, s.mirrorSet),
		api.On(api.MirrorPlacement, s.mirrorPlacement),
		api.On(api.MirrorDiscard, s.mirrorDiscard),
		api.On(api.MirrorPeers, s.mirrorPeers),
		api.On(api.PeerToken, s.peerToken),
		api.On(api.PeerImport, s.peerImport),
		api.On(api.PeerJoin, s.peerJoin),
		api.On(api.PeerList, s.peerList),
		api.On(api.PeerRemove, s.peerRemove),
	}
}
