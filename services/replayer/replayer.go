package replayer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/instance"
	"tidemark/internal/peers"
	"tidemark/internal/replica"
	"tidemark/internal/site"
	"tidemark/internal/tail"
	"tidemark/internal/vfs"
)

// Deps is what the service needs.
type Deps struct {
	Bus     *bus.Bus
	Node    site.Node
	Log     *slog.Logger
	Metrics prometheus.Registerer // may be nil
	// JournalBytesMax bounds each directory's journal at this site, in bytes; zero is
	// no bound.
	JournalBytesMax int64
	// Durability is shown in status.
	Durability string
}

// Service is the replayer service of one node.
type Service struct {
	deps      Deps
	peers     *peers.Peers
	positions *tail.Positions
	metrics   *metrics
	started   chan struct{}

	mu        sync.Mutex
	ctx       context.Context //nolint:containedctx // of Run: the followers' lives end with it
	followers map[events.DirectoryID]*follower
	running   sync.WaitGroup
}

// New returns a service that follows nothing until it runs.
func New(deps Deps) *Service {
	s := &Service{
		deps:      deps,
		peers:     peers.New(),
		positions: tail.NewPositions(),
		started:   make(chan struct{}),
		followers: map[events.DirectoryID]*follower{},
	}
	s.metrics = newMetrics(deps.Metrics, s)
	return s
}

// Ready is closed when the service can be told to acquire directories.
func (s *Service) Ready() <-chan struct{} { return s.started }

// Run serves until ctx ends. What was received is safe when it returns.
//
//	notifier ──acquire/release──> instance.Run ──> Acquire, Release
//	                                                   │ one goroutine each
//	POOLS ──> peers ──> source ──journal, objects──> follower.run ──> journal here ──> tail
func (s *Service) Run(ctx context.Context) error {
	s.mu.Lock()
	s.ctx = ctx
	s.mu.Unlock()
	defer s.running.Wait()
	group, inner := errgroup.WithContext(ctx)
	caughtUp := make(chan struct{})
	group.Go(func() error {
		return ended(inner, s.deps.Bus.Fold(inner, events.StreamPools, func() { close(caughtUp) }, s.peers.Evolve))
	})
	group.Go(func() error { return ended(inner, s.positions.Follow(inner, s.deps.Bus)) })
	group.Go(func() error {
		for _, known := range []<-chan struct{}{caughtUp, s.positions.Known()} {
			select {
			case <-known:
			case <-inner.Done():
				return nil
			}
		}
		close(s.started)
		return ended(inner, instance.Run(inner, s.deps.Bus, s.deps.Node, events.ServiceReplayer, s, s.deps.Log))
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("replayer: %w", err)
	}
	return nil
}

// ended drops the error of something that ended because it was told to.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the end of ctx is how it ends
	}
	return err
}

// client is the name under which this node's replicas keep their commit positions.
func (s *Service) client() string { return s.deps.Node.Site.Name + "." + s.deps.Node.Name }

// Acquire implements [instance.Holder]: the node follows a directory from now on. It
// returns when the node's own copy is open; the source may be out of reach.
func (s *Service) Acquire(ctx context.Context, r *events.AcquireRequested) (events.Mark, error) {
	if r.Role != events.Slave {
		return events.Mark{}, fault.New(fault.Usage, "the replayer service holds slaves, not a %s", r.Role)
	}
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

// start runs a follower, or returns the one that runs already.
func (s *Service) start(r *events.AcquireRequested) *follower {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.followers[r.Directory]; f != nil {
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
// deleted and the source is told that it need not wait for this client any more.
func (s *Service) Release(ctx context.Context, r *events.ReleaseRequested) (events.Mark, bool, error) {
	s.mu.Lock()
	f := s.followers[r.Directory]
	s.mu.Unlock()
	var mark events.Mark
	name := events.DirectoryName{Pool: r.Pool, Path: r.Path}
	if f != nil {
		f.keepAll.Store(r.KeepAll)
		f.cancel()
		<-f.ended
		mark = f.marks().Logged
		s.forget(f)
		s.unregister(ctx, f, r.Remove)
	}
	if !r.Remove {
		return mark, true, nil
	}
	dir := ReplicaDir(s.deps.Node.Data, r.Directory)
	if err := replica.Destroy(vfs.OS(), dir); err != nil && !errors.Is(err, replica.ErrNotFound) {
		return mark, true, fmt.Errorf("remove %s: %w", name, err)
	}
	if err := s.deps.Bus.RemoveLog(ctx, events.JournalStream(name, r.Directory)); err != nil {
		return mark, true, fmt.Errorf("remove %s: %w", name, err)
	}
	return mark, true, nil
}

// unregister tells the last source that this node needs nothing of it any more. What is
// to be promoted does not wait for that: its source may be gone.
func (s *Service) unregister(ctx context.Context, f *follower, wait bool) {
	last := f.lastSource()
	switch {
	case last == nil:
	case wait:
		f.unregister(ctx, last)
	default:
		s.running.Go(func() { f.unregister(s.ctx, last) })
	}
}

// ReplicaDir returns the folder of a directory's copy in a node's data folder.
func ReplicaDir(data string, id events.DirectoryID) string {
	return filepath.Join(data, "replicas", string(id))
}

// needed returns the position below which nobody needs this site's journal of a
// directory. A site that is no peer of the pool any more holds nothing.
func (s *Service) needed(id events.DirectoryID, pool string) events.Position {
	primary := s.primaryOf(id)
	return s.positions.Needed(id, s.client(), func(f events.PositionCommitted) bool {
		return f.Site != primary && s.mayFollow(pool, f.Site)
	})
}

// primaryOf returns the UUID of the site that a directory is followed at. It needs
// nothing of this site's journal: what it committed here is from before it was primary.
func (s *Service) primaryOf(id events.DirectoryID) string {
	s.mu.Lock()
	f := s.followers[id]
	s.mu.Unlock()
	if f == nil {
		return ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.source == nil || !f.source.primary {
		return ""
	}
	return f.source.peer.Peer
}

// admit returns an error if a site may not follow the directories of a pool here now.
func (s *Service) admit(pool, site string) error {
	if site == s.deps.Node.Site.UUID {
		return nil
	}
	return s.peers.Check(pool, site)
}

// mayFollow reports whether a site may follow the directories of a pool here.
func (s *Service) mayFollow(pool, site string) bool {
	return site == s.deps.Node.Site.UUID || s.peers.Has(pool, site)
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
