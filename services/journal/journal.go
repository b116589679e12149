package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/peers"
	"tidemark/internal/site"
	"tidemark/internal/tail"
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
	// JournalBytesMax bounds each directory's journal, in bytes; zero is no bound.
	JournalBytesMax int64
	// Lag says how far a follower may fall behind before the journal stops waiting for it.
	Lag LagLimits
	// Durability is shown in status: "sync", "quorum" or "relaxed".
	Durability string
	// FS holds the node's copies; nil is the operating system's.
	FS vfs.FS
	// Settings of the group commit; none: [DefaultSettings].
	Settings Settings
}

// Service is the journal service of one node.
type Service struct {
	deps    Deps
	shared  holder.Service
	clients *holder.Clients
	metrics *metrics
	started chan struct{}

	mu          sync.Mutex
	ctx         context.Context //nolint:containedctx // of Run: the directories' lives end with it
	directories map[events.DirectoryID]*directory
	running     sync.WaitGroup
}

// New returns a service that holds nothing until it runs.
func New(deps Deps) *Service {
	clients := holder.NewClients(deps.Node)
	if deps.Settings == (Settings{}) {
		deps.Settings = DefaultSettings()
	}
	if deps.FS == nil {
		deps.FS = vfs.OS()
	}
	s := &Service{
		deps: deps,
		shared: holder.Service{
			Name: events.ServiceJournal, Bus: deps.Bus, Node: deps.Node, Log: deps.Log, Clients: clients,
			Ended: make(chan string, 1),
			Notes: turns.NewOutbox(deps.Bus, deps.Log),
		},
		clients:     clients,
		started:     make(chan struct{}),
		directories: map[events.DirectoryID]*directory{},
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

// Run serves until ctx ends. Everything that was acknowledged is safe when it returns.
//
//	notifier ──acquire/release──> instance.Run ──> Acquire, Release
//	                                                   │ one goroutine each
//	NBD ──> Exports ──> session ──> writer ──> log     directory.run
//	                        └────── replica <── tail <─┘
//	POSITIONS, POOLS ──> clients ──> who may follow, what may be trimmed
//	peers' directories and histories ──> watch ──> split brains, shown
func (s *Service) Run(ctx context.Context) error {
	s.mu.Lock()
	s.ctx = ctx
	s.mu.Unlock()
	defer s.shared.Notes.Start(ctx)()
	defer s.running.Wait()
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return s.shared.Run(inner, s, func() { close(s.started) }) })
	group.Go(func() error { return (&watch{s, map[string]*nats.Conn{}}).run(inner) })
	return group.Wait()
}

// Acquire implements [instance.Holder]: the node becomes the owner of a directory. It
// returns when requests are taken, or the first attempt has failed; then nothing of the
// directory is left running.
func (s *Service) Acquire(ctx context.Context, r *events.AcquireRequested) (events.Mark, error) {
	if r.Role != events.Master {
		return events.Mark{}, fault.New(fault.Usage, "the journal service holds masters, not a %s", r.Role)
	}
	s.endFenced(r.Directory)
	d := s.start(r)
	life, err := d.ready(ctx)
	if err == nil {
		return life.claim.Load().Mark, nil
	}
	if !errors.Is(err, tail.ErrLostTail) || r.Promote != "" { // else an operator may give up what was lost
		_ = s.stop(d) // why it could not be opened says more
	}
	return events.Mark{}, d.wrap(err)
}

// start runs a directory, or returns the one that runs already.
func (s *Service) start(r *events.AcquireRequested) *directory {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.directories[r.Directory]; d != nil {
		d.tenure.Renew(r.Assignment)
		return d
	}
	d := newDirectory(s, r)
	var ctx context.Context
	ctx, d.cancel = context.WithCancel(s.ctx)
	s.directories[r.Directory] = d
	reason := events.TagOpened
	if r.Promote != "" {
		reason = r.Promote
	}
	s.running.Go(func() { d.run(ctx, reason) })
	return d
}

// endFenced lets go of what an earlier assignment left behind that was fenced.
func (s *Service) endFenced(id events.DirectoryID) {
	s.mu.Lock()
	d := s.directories[id]
	s.mu.Unlock()
	if d != nil && d.tenure.Over() {
		_ = s.stop(d) // what it could not make safe, its successor has not seen either
	}
}

// stop ends a directory and waits for it. It returns an error if what was taken could not
// be made safe.
func (s *Service) stop(d *directory) error {
	d.announceClosing()
	d.cancel()
	<-d.ended
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.directories[d.id] == d {
		delete(s.directories, d.id)
	}
	return d.closeErr
}

// Release implements [instance.Holder]: the node lets go of a directory. Sessions are
// closed, what was acknowledged is safe and applied; with Demote the journal says so,
// with Remove the copy and the journal are deleted.
func (s *Service) Release(ctx context.Context, r *events.ReleaseRequested) (events.Mark, bool, error) {
	s.mu.Lock()
	d := s.directories[r.Directory]
	s.mu.Unlock()
	if d != nil {
		if err := s.stop(d); err != nil && !r.Demote && !r.Remove { // those begin anew from the log
			return events.Mark{}, false, d.wrap(err)
		}
	}
	name := events.DirectoryName{Pool: r.Pool, Path: r.Path}
	var mark events.Mark
	var err error
	if r.Demote {
		if mark, err = s.demote(ctx, r.Assignment, name); err != nil {
			return mark, false, err
		}
	}
	if r.Remove && r.IfEmpty {
		if err := s.demandEmpty(ctx, r.Directory, name); err != nil {
			return mark, false, err
		}
	}
	if r.Remove {
		return mark, true, s.shared.Remove(ctx, r.Directory, name)
	}
	return mark, true, nil
}

// demote ends this site's ownership in the journal: a tag that nobody owns.
func (s *Service) demote(ctx context.Context, a events.Assignment, name events.DirectoryName) (events.Mark, error) {
	d := newDirectory(s, &events.AcquireRequested{Assignment: a, Pool: name.Pool, Path: name.Path})
	mark, err := d.demote(ctx)
	if err != nil {
		return mark, fmt.Errorf("demote %s: %w", name, err)
	}
	return mark, nil
}

// demandEmpty returns an error if a directory that this node has let go of holds images.
func (s *Service) demandEmpty(ctx context.Context, id events.DirectoryID, name events.DirectoryName) error {
	images, err := newDirectory(s, &events.AcquireRequested{
		Assignment: events.Assignment{Directory: id}, Pool: name.Pool, Path: name.Path,
	}).countImages(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("look whether %s is empty: %w", name, err)
	case images > 0:
		return fault.New(fault.Busy, "it holds %d images: remove them first", images)
	}
	return nil
}

// standings describes what the node was told to own.
func (s *Service) standings() []api.Standing {
	held := s.held()
	all := make([]api.Standing, len(held))
	for i, d := range held {
		all[i].Status = d.standing()
	}
	return all
}

// held returns the directories that the node was told to own, in no order.
func (s *Service) held() []*directory {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*directory, 0, len(s.directories))
	for _, d := range s.directories {
		all = append(all, d)
	}
	return all
}
