package dashboard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/overview"
	"tidemark/internal/site"
)

const (
	// lookAge is how often the site is asked; lookShare is how much of the time that may take.
	lookAge   = 2 * time.Second
	lookShare = 20
	// lookTime bounds one look.
	lookTime = 10 * time.Second
	// retryWait is the pause before a stream is read again.
	retryWait = time.Second
	// hurryAge is how soon after a turn the site is asked again.
	hurryAge = 200 * time.Millisecond
)

// Deps is what the service needs.
type Deps struct {
	Bus  *bus.Bus
	Node site.Node
	Log  *slog.Logger
	// Version is the program's, for people.
	Version string
	// URL is where the page is served, for those who look for it elsewhere; empty: nowhere.
	URL string
}

// Service keeps the page.
type Service struct {
	deps     Deps
	renderer *renderer
	streams  chan struct{} // a slot for each browser that follows
	ended    chan struct{} // closed when Run returns
	hurry    chan struct{} // something happened: look again soon

	mu      sync.Mutex // protects what follows; never held during I/O
	state   *State
	changed chan struct{} // closed at the next change
}

// New returns a service that shows nothing before Run.
func New(d Deps) (*Service, error) {
	r, err := newRenderer()
	if err != nil {
		return nil, err
	}
	return &Service{
		deps: d, renderer: r, streams: make(chan struct{}, streamsMax), ended: make(chan struct{}), hurry: make(chan struct{}, 1),
		state: NewState(time.Now()), changed: make(chan struct{}),
	}, nil
}

// Run keeps the page up to date until ctx ends, which is no error.
//
//	look: policy and holders, every two seconds ─┐
//	LIFECYCLE ─► follow ─────────────────────────┼─► State ─► changed ─► streams
//	INSTANCES ─► follow ─────────────────────────┘
func (s *Service) Run(ctx context.Context) error {
	defer close(s.ended)
	where := api.On(api.Dashboard, func(context.Context, api.Nothing) (api.DashboardPlace, error) {
		return api.DashboardPlace{Node: s.deps.Node.Name, URL: s.deps.URL}, nil
	})
	stop, err := api.Serve(ctx, s.deps.Bus.Conn(), s.deps.Log, where)
	if err != nil {
		return fmt.Errorf("dashboard: %w", err)
	}
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { s.keepLooking(ctx); return nil })
	g.Go(func() error {
		s.keepFollowing(ctx, events.StreamLifecycle, turnsMax, s.noted)
		return nil
	})
	g.Go(func() error {
		s.keepFollowing(ctx, events.StreamInstances, 0, func(s *State, f events.Fact) { s.Instance(f) })
		return nil
	})
	return g.Wait()
}

func (s *Service) keepLooking(ctx context.Context) {
	for ctx.Err() == nil {
		start := time.Now()
		s.look(ctx)
		rest := max(lookAge, lookShare*time.Since(start))
		s.pause(ctx, rest)
	}
}

// pause waits, and less if something happens meanwhile.
func (s *Service) pause(ctx context.Context, rest time.Duration) {
	t := time.NewTimer(rest)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.hurry:
		if rest <= lookAge { // a large site is not asked for each of its turns
			t.Reset(hurryAge)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	case <-ctx.Done():
	}
}

// look asks the site once.
func (s *Service) look(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	snapshot, err := s.ask(within)
	if ctx.Err() != nil {
		return
	}
	s.change(func(state *State) {
		if err != nil {
			state.Unanswered(time.Now(), why(err))
			return
		}
		state.Heard(snapshot)
	})
}

func (s *Service) ask(ctx context.Context) (Snapshot, error) {
	nc := s.deps.Bus.Conn()
	if !nc.IsConnected() {
		return Snapshot{}, errNotConnected
	}
	m, err := overview.AskMap(ctx, nc)
	if err != nil {
		return Snapshot{}, err
	}
	reports := overview.AskHolders(ctx, nc, m.Site.Instances, false)
	return Snapshot{At: time.Now(), Map: m, Lines: reports.Lines(m.Directories), Reports: reports}, nil
}

var errNotConnected = errors.New("there is no connection to NATS")

// why says for people why the site could not be asked.
func why(err error) string {
	switch {
	case api.Nobody(err):
		return "no policy service answers"
	case errors.Is(err, errNotConnected):
		return errNotConnected.Error()
	}
	return err.Error()
}

// noted takes a fact of LIFECYCLE.
func (s *Service) noted(state *State, fact events.Fact) {
	if f, ok := fact.(*events.LifecycleNoted); ok {
		state.Noted(*f)
		select {
		case s.hurry <- struct{}{}:
		default: // it looks soon anyway
		}
	}
}

// keepFollowing folds a stream until ctx ends: the last messages of it, or all where last is
// zero. What cannot be read is passed over: nothing depends on the page.
func (s *Service) keepFollowing(ctx context.Context, stream string, last uint64, fold func(*State, events.Fact)) {
	var next uint64
	for ctx.Err() == nil {
		err := s.follow(ctx, stream, last, &next, fold)
		if ctx.Err() != nil {
			return
		}
		s.deps.Log.Warn("reading a stream again", "stream", stream, "from", next, "error", err)
		wait := time.NewTimer(retryWait)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
	}
}

func (s *Service) follow(ctx context.Context, stream string, last uint64, next *uint64, fold func(*State, events.Fact)) error {
	is, err := s.deps.Bus.State(ctx, stream)
	if err != nil {
		return err
	}
	from := is.First
	if last > 0 && is.Last > last {
		from = max(from, is.Last-last+1)
	}
	*next = max(*next, from)
	return s.deps.Bus.Follow(ctx, stream, *next, func(m bus.Message) error {
		*next = m.Sequence + 1
		if fact, err := events.Unmarshal(m.Data); err == nil {
			s.change(func(state *State) { fold(state, fact) })
		}
		return nil
	})
}

// change changes the state and wakes those who show it.
func (s *Service) change(f func(*State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.state)
	close(s.changed)
	s.changed = make(chan struct{})
}

// changes is closed at the next change.
func (s *Service) changes() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// current makes the page as it is now.
func (s *Service) current(q Query) Page {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.state.Page(q, time.Now())
	p.Node, p.Version = s.deps.Node.Name, s.deps.Version
	if p.Site == "" {
		p.Site = s.deps.Node.Site.Name
	}
	p.Assets = s.renderer.version
	return p
}
