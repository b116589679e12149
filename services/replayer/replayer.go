package replayer

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/peers"
	"tidemark/internal/site"
	"tidemark/internal/turns"
	"tidemark/internal/vfs"
)

// Deps is what the service needs.
type Deps struct {
	Bus     *bus.Bus
	Node    site.Node
	Log     *slog.Logger
	Metrics prometheus.Registerer // may be nil
	Dialer  peers.Dialer          // how other sites are come in at
	// JournalBytesMax bounds each directory's journal at this site, in bytes; zero is
	// no bound.
	JournalBytesMax int64
	// Durability is shown in status.
	Durability string
	// FS holds the node's copies; nil is the operating system's.
	FS vfs.FS
}

// Service is the replayer service of one node.
type Service struct {
	deps    Deps
	shared  holder.Service
	clients *holder.Clients
	metrics *metrics
	started chan struct{}

	mu        sync.Mutex
	ctx       context.Context //nolint:containedctx // of Run: the followers' lives end with it
	followers map[events.DirectoryID]*follower
	running   sync.WaitGroup

	departures departures
	configured *configured
}

// New returns a service that follows nothing until it runs.
func New(deps Deps) *Service {
	clients := holder.NewClients(deps.Node)
	if deps.FS == nil {
		deps.FS = vfs.OS()
	}
	s := &Service{
		deps: deps,
		shared: holder.Service{
			Name: events.ServiceReplayer, Bus: deps.Bus, Node: deps.Node, Log: deps.Log, Clients: clients,
			Ended: make(chan string, 1),
			Notes: turns.NewOutbox(deps.Bus, deps.Log),
		},
		clients:   clients,
		started:   make(chan struct{}),
		followers: map[events.DirectoryID]*follower{},

		configured: newConfigured(),
	}
	s.shared.Standings = s.standings
	s.metrics = newMetrics(deps.Metrics, s)
	return s
}

// Fenced implements [instance.Fenceable].
func (s *Service) Fenced() <-chan string { return s.shared.Ended }

// AwaitClosed implements [instance.Closing].
func (s *Service) AwaitClosed() {
	s.mu.Lock()
	ended := s.ctx.Err() != nil
	s.mu.Unlock()
	if ended {
		s.running.Wait()
	}
}

// Ready is closed when the service can be told to acquire directories.
func (s *Service) Ready() <-chan struct{} { return s.started }

// Run serves until ctx ends. What was received is safe when it returns.
//
//	notifier ──acquire/release──> instance.Run ──> Acquire, Release
//	                                                   │ one goroutine each
//	POOLS ──> clients ──> source ──journal, objects──> follower.run ──> journal here ──> tail
//	DIRECTORIES ──> settings ─────────────────────────────┘
func (s *Service) Run(ctx context.Context) error {
	group, inner := errgroup.WithContext(ctx)
	s.mu.Lock()
	s.ctx = inner
	s.mu.Unlock()
	defer s.shared.Notes.Start(ctx)()
	defer s.running.Wait()
	group.Go(func() error { return s.configured.follow(inner, s.deps.Bus) })
	group.Go(func() error {
		select {
		case <-s.configured.known:
		case <-inner.Done():
			return nil
		}
		return s.shared.Run(inner, s, func() { close(s.started) })
	})
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", events.ServiceReplayer, err)
	}
	return nil
}

// Acquire implements [instance.Holder]: the node follows a directory from now on. It
// returns when the node's own copy is open; the source may be out of reach.
func (s *Service) Acquire(ctx context.Context, r *events.AcquireRequested) (events.Mark, error) {
	if r.Role != events.Slave {
		return events.Mark{}, fault.New(fault.Usage, "the replayer service holds slaves, not a %s", r.Role)
	}
	s.endOutdated(r)
	f := s.start(r)
	select {
	case <-f.opened:
		return f.marks().Applied, nil
	case <-f.ended:
		s.forget(f)
		return events.Mark{}, fmt.Errorf("directory %s: %w", f.name, f.failure())
	case <-ctx.Done():
		return events.Mark{}, ctx.Err()
	}
}

// endOutdated ends a follower that was not told of a resync which is asked for, or that was
// fenced.
func (s *Service) endOutdated(r *events.AcquireRequested) {
	s.mu.Lock()
	f := s.followers[r.Directory]
	s.mu.Unlock()
	if f == nil || f.asked.number >= r.Resync && !f.tenure.Over() {
		return
	}
	f.cancel()
	<-f.ended
	s.forget(f)
}

// start runs a follower, or returns the one that runs already.
func (s *Service) start(r *events.AcquireRequested) *follower {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.followers[r.Directory]; f != nil {
		f.tenure.Renew(r.Assignment)
		return f
	}
	f := newFollower(s, r)
	var ctx context.Context
	ctx, f.cancel = context.WithCancel(s.ctx)
	s.followers[r.Directory] = f
	s.running.Go(func() { f.run(ctx) })
	return f
}

func (s *Service) forget(f *follower) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.followers[f.id] == f {
		delete(s.followers, f.id)
	}
}

// Release implements [instance.Holder]: the node stops following. What the source has
// reported safe, or with KeepAll everything that was received, is safe in this site's
// journal when it returns; with Remove the copy and the journal are
// deleted and the source is told that it need not wait for this client any more. With KeepAll
// it fails if that was not so; asked again, it lets go with what the journal has. With
// Discard nothing is let go of: see discard.
func (s *Service) Release(ctx context.Context, r *events.ReleaseRequested) (events.Mark, bool, error) {
	if r.Discard {
		return events.Mark{}, true, s.discard(ctx, r.Directory, events.DirectoryName{Pool: r.Pool, Path: r.Path})
	}
	s.mu.Lock()
	f := s.followers[r.Directory]
	s.mu.Unlock()
	var mark events.Mark
	if f != nil {
		f.keepAll.Store(r.KeepAll)
		f.cancel()
		<-f.ended
		mark = f.marks().Logged
		s.forget(f)
		s.depart(ctx, f, r.Remove)
		if f.closeErr != nil && r.KeepAll {
			return mark, true, fmt.Errorf("directory %s: %w", f.name, f.closeErr)
		}
	}
	if !r.Remove {
		return mark, true, nil
	}
	return mark, true, s.shared.Remove(ctx, r.Directory, events.DirectoryName{Pool: r.Pool, Path: r.Path})
}

// primaryOf returns the UUID of the site that a directory is followed at, empty while it
// is followed at none.
func (s *Service) primaryOf(id events.DirectoryID) string {
	s.mu.Lock()
	f := s.followers[id]
	s.mu.Unlock()
	if f == nil {
		return ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.source == nil || !f.source.owns() {
		return ""
	}
	return f.source.peer.Peer
}

// held returns the followers, in no order.
func (s *Service) held() []*follower {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*follower, 0, len(s.followers))
	for _, f := range s.followers {
		all = append(all, f)
	}
	return all
}
