package notifier

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/site"
	"tidemark/services/notifier/webhook"
)

// Deps is what the service needs from outside.
type Deps struct {
	Bus     *bus.Bus
	Node    site.Node
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: metrics are kept, nobody collects them
	// Silence is how long an instance may be silent before it is taken for dead; zero
	// is [DefaultSilence].
	Silence time.Duration
	// Webhooks are who is told of turns by HTTP.
	Webhooks webhook.Config
}

// DefaultSilence is ten heartbeats.
const DefaultSilence = 10 * time.Second

// ticksPerSilence is how often the roster is looked at within the silence that it
// allows: often enough that a late tick is not taken for a clock that jumped.
const ticksPerSilence = 20

// Service is the notifier.
type Service struct {
	bus     *bus.Bus
	node    site.Node
	log     *slog.Logger
	metrics *metrics
	silence time.Duration
	ready   chan struct{}
	// webhooks tells of turns by HTTP.
	webhooks *webhook.Service
	// beat wakes the watch: somebody new was heard, or somebody left.
	beat chan struct{}
	// work wakes the dispatch: a directory has something to deliver.
	work chan struct{}
	// publishing holds a token while nobody publishes: a fact is decided, published and
	// folded by one goroutine at a time.
	publishing chan struct{}

	mu       sync.Mutex // protects what follows; never held during I/O
	state    *State
	roster   *Roster
	folded   map[string]uint64              // last sequence folded, by stream
	changed  chan struct{}                  // closed at the next change of state
	fresh    map[events.DirectoryID]bool    // got a request since the last dispatch
	couriers map[events.DirectoryID]courier // under way
}

// courier marks that one goroutine delivers for a directory.
type courier struct{}

// New returns a service that does nothing before Run.
func New(d Deps) *Service {
	s := &Service{
		bus: d.Bus, node: d.Node, log: d.Log.With("service", "notifier"), silence: d.Silence,
		metrics:    newMetrics(d.Metrics),
		ready:      make(chan struct{}),
		beat:       make(chan struct{}, 1),
		work:       make(chan struct{}, 1),
		publishing: make(chan struct{}, 1),
		state:      NewState(),
		folded:     map[string]uint64{},
		changed:    make(chan struct{}),
		fresh:      map[events.DirectoryID]bool{},
		couriers:   map[events.DirectoryID]courier{},
	}
	s.webhooks = webhook.New(webhook.Deps{Bus: d.Bus, Site: d.Node.Site, Log: s.log, Metrics: d.Metrics, Config: d.Webhooks})
	if s.silence <= 0 {
		s.silence = DefaultSilence
	}
	if d.Metrics != nil {
		d.Metrics.MustRegister(newSilence(s))
	}
	s.publishing <- struct{}{}
	return s
}

// Ready is closed once the streams are folded and instances are listened to.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Run runs the service until ctx ends, which is no error.
//
//	INSTANCES ─────► follow ─┐                          ┌─► courier (one per directory)
//	                         ├─► State ─► dispatch ─────┤        │ request ▲ answer
//	NOTIFICATIONS ─► follow ─┘     │                    └─► …    ▼         │
//	                               ▼                           node's agent
//	heartbeats ──► Roster ─────► watch ─► INSTANCES              │
//	                                                 NOTIFICATIONS ◄─ acknowledgement
//
// Beside that a [herald] notes in LIFECYCLE what the streams say.
func (s *Service) Run(ctx context.Context) error {
	if err := s.bus.EnsureStreams(ctx, events.SiteStreams()); err != nil {
		return fmt.Errorf("notifier: %w", err)
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, stream := range []string{events.StreamInstances, events.StreamNotifications} {
		from, err := s.begin(gctx, stream)
		if err != nil {
			return fmt.Errorf("notifier: %w", err)
		}
		g.Go(func() error { return s.follow(gctx, stream, from) })
	}
	g.Go(func() error { return s.serve(gctx) })
	g.Go(func() error { newHerald(s.bus, s.log).run(gctx); return nil })
	g.Go(func() error { return s.webhooks.Run(gctx) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("notifier: %w", err)
	}
	return nil
}

// serve listens and delivers, once the state is the log's.
func (s *Service) serve(ctx context.Context) error {
	for _, stream := range []string{events.StreamInstances, events.StreamNotifications} {
		if err := s.catchUp(ctx, stream); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.roster = NewRoster(s.silence, time.Now())
	s.mu.Unlock()
	unsubscribe, err := s.listen()
	if err != nil {
		return err
	}
	defer unsubscribe()
	close(s.ready)
	s.log.Info("notifier serves")

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.watch(ctx) })
	g.Go(func() error { return s.dispatch(ctx) })
	return g.Wait()
}

// watch publishes what the log lacks about instances.
func (s *Service) watch(ctx context.Context) error {
	tick := time.NewTicker(s.silence / ticksPerSilence)
	defer tick.Stop()
	for {
		if err := s.publishLiveness(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			s.log.Warn("liveness not published", "error", err)
		}
		select {
		case <-tick.C:
		case <-s.beat:
		case <-ctx.Done():
			return nil
		}
	}
}

// dispatch starts a courier for each directory that needs one, and waits for all of them
// at the end.
func (s *Service) dispatch(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		for _, d := range s.needCourier() {
			running.Go(func() { s.courier(ctx, d) })
		}
		select {
		case <-s.work:
		case <-ctx.Done():
			return nil
		}
	}
}

// courier delivers what waits for a directory, oldest first, until nothing does.
func (s *Service) courier(ctx context.Context, d events.DirectoryID) {
	for {
		r, ok := s.nextFor(d)
		if !ok || ctx.Err() != nil {
			return
		}
		ack := s.deliver(ctx, r)
		if ack == nil {
			continue // ctx ended
		}
		s.acknowledge(ctx, r, ack)
	}
}
