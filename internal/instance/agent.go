package instance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/site"
)

const (
	heartbeatEvery = time.Second
	leaveTime      = 2 * time.Second
)

// Run is the agent of one service of a node, until ctx ends. node names its first
// incarnation. It returns an error only if it could not start. When it returns nothing of
// the Holder runs any more, and the notifier was told that the service left: who has left is
// fenced, so a service whose directories end together with ctx is a [Closing].
//
//	          ┌ standing: INSTANCES, what the log says of this incarnation
//	Run ──────┤ beat: each second, at a roll call, once when leaving
//	          └ desk: control requests, a goroutine each, in order per directory
func Run(ctx context.Context, b *bus.Bus, node site.Node, service string, h Holder, log *slog.Logger) error {
	standing := newStanding(node.Name, service)
	end, err := b.State(ctx, events.StreamInstances)
	if err != nil {
		return fmt.Errorf("read the instances: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return standing.follow(ctx, b, end.Last+1, log) })
	group.Go(func() error {
		a := &agent{bus: b, node: node, service: service, holder: h, standing: standing, log: log}
		return a.incarnations(ctx)
	})
	return group.Wait()
}

// agent speaks for a service in one incarnation after the other.
type agent struct {
	bus      *bus.Bus
	node     site.Node
	service  string
	holder   Holder
	standing *standing
	log      *slog.Logger
}

func (a *agent) incarnations(ctx context.Context) error {
	for started := false; ; {
		log := a.log.With("node", a.node.Name, "incarnation", a.node.Incarnation)
		held, err := a.live(ctx, log)
		if err != nil && started && ctx.Err() == nil {
			log.Warn("not announced", "error", err) // the link that was cut is cut again
			pause(ctx)
			continue
		}
		if err != nil || ctx.Err() != nil {
			return err
		}
		started = true
		log.Warn("this incarnation was taken for dead; everything is let go of", "directories", len(held))
		a.letGo(ctx, held, log)
		if err := a.standing.awaitVacant(ctx, a.bus, a.node.Incarnation); err != nil {
			return nil //nolint:nilerr // ctx has ended
		}
		if a.node.Incarnation, err = site.NewID(); err != nil {
			return fmt.Errorf("take a new incarnation: %w", err)
		}
	}
}

// live speaks for one incarnation until ctx ends, or the incarnation is gone: then it
// returns what may still be held.
func (a *agent) live(ctx context.Context, log *slog.Logger) ([]*events.AcquireRequested, error) {
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	desk := newDesk(a.node, a.service, a.holder, log)
	defer func() { cancel(); desk.wait() }()
	beat := func(leaving bool) { a.beat(leaving, log) }

	control, err := a.bus.Conn().Subscribe(events.ControlSubject(a.node.Name, a.service), func(m *nats.Msg) { desk.take(ctx, m) })
	if err != nil {
		return nil, fmt.Errorf("listen for control requests of %s at %s: %w", a.service, a.node.Name, err)
	}
	defer func() { _ = control.Unsubscribe() }() // fails only with the connection
	rollCall, err := a.bus.Conn().Subscribe(events.RollCallSubject, func(*nats.Msg) { beat(false) })
	if err != nil {
		return nil, fmt.Errorf("listen for roll calls: %w", err)
	}
	defer func() { _ = rollCall.Unsubscribe() }()
	// The subscription must stand at the server before anybody hears of the service:
	// the first request would otherwise find no one.
	if err := a.bus.Conn().Flush(); err != nil {
		return nil, fmt.Errorf("announce %s at %s: %w", a.service, a.node.Name, err)
	}
	beat(false)
	a.keepBeating(ctx, beat)

	// A roll call must not be answered after the leave.
	_ = rollCall.Unsubscribe()
	_ = control.Unsubscribe()
	cancel()
	desk.wait()
	if outer.Err() == nil {
		return desk.heldDirectories(), nil
	}
	a.awaitClosed(beat)
	beat(true)
	_ = a.bus.Conn().FlushTimeout(leaveTime) // silence says the same, later
	return nil, nil
}

func (a *agent) beat(leaving bool, log *slog.Logger) {
	err := a.bus.Send(&events.Heartbeat{
		Node: a.node.Name, Service: a.service, Incarnation: a.node.Incarnation, Data: a.node.DataID,
		Leaving: leaving, At: events.InstantOf(time.Now()),
	})
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		log.Warn("heartbeat not sent", "error", err)
	}
}

// awaitClosed says that the incarnation lives until its directories are closed.
func (a *agent) awaitClosed(beat func(leaving bool)) {
	holder, ok := a.holder.(Closing)
	if !ok {
		return
	}
	closed := make(chan struct{})
	go func() { holder.AwaitClosed(); close(closed) }()
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-closed:
			return
		case <-tick.C:
			beat(false)
		}
	}
}

// keepBeating says that the incarnation lives until ctx ends, or it does not.
func (a *agent) keepBeating(ctx context.Context, beat func(leaving bool)) {
	var fenced <-chan string
	if f, ok := a.holder.(Fenceable); ok {
		fenced = f.Fenced()
	}
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		gone, changed := a.standing.gone(a.node.Incarnation)
		if gone {
			return
		}
		select {
		case <-changed:
		case incarnation := <-fenced:
			if incarnation == a.node.Incarnation {
				return
			}
		case <-tick.C:
			beat(false)
		case <-ctx.Done():
			return
		}
	}
}

// letGo releases what a gone incarnation held. Nothing is ended in a journal, and nothing
// deleted: that is for whoever holds the directory next.
func (a *agent) letGo(ctx context.Context, held []*events.AcquireRequested, log *slog.Logger) {
	var group errgroup.Group
	group.SetLimit(parallelMax)
	for _, r := range held {
		group.Go(func() error {
			_, _, err := a.holder.Release(ctx, &events.ReleaseRequested{Assignment: r.Assignment, Pool: r.Pool, Path: r.Path})
			if err != nil && ctx.Err() == nil {
				log.Warn("a directory was not let go of in order", "directory", r.Directory, "error", err)
			}
			return nil
		})
	}
	_ = group.Wait() // each has logged its own
}
