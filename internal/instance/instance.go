// Package instance is the agent that a service which holds directories runs: it says
// that the service lives, takes the notifier's acquires and releases, and answers them.
//
//	roll call ───► heartbeat ───────────────► notifier
//	control   ───► decode ─► queue of the directory ─► Holder ─► answer
//
// Invariants:
//
//   - An operation runs at most once in one run of the agent, however often it is
//     delivered: a duplicate waits for the answer, or gets the one that was given.
//   - The operations of one directory run one after the other, in the order in which
//     they came; those of different directories run side by side.
//   - What is meant for another incarnation is never run: it is answered with fenced, and
//     with the agent's own incarnation in the assignment, so that nobody takes this for
//     the answer of the one that was asked.
//   - A request that was cut short by the end of the agent is not answered: the notifier
//     answers for an instance that is gone.
package instance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/site"
)

const (
	heartbeatEvery = time.Second
	leaveTime      = 2 * time.Second
)

// Holder holds directories. The agent never calls it twice at a time for one directory.
//
// Both methods are asked again after a doubtful outcome, so both are idempotent: to
// acquire what is held already, in the same role, answers with its mark, and to release
// what is not held is a success that is quiesced; with Demote the ownership is ended in
// the journal first, whether the directory is held or not. An Acquire that returns an error holds nothing; what a failed Release left behind is
// doubtful, and is acquired again if it is to stay. A promotion that took effect and
// whose answer was lost is asked again. Errors are answered by their [fault.Code]; ctx
// ends with the agent.
type Holder interface {
	// Acquire takes a directory over, and returns from where.
	Acquire(ctx context.Context, r *events.AcquireRequested) (events.Mark, error)
	// Release lets a directory go, and returns where it stood. quiesced says that
	// nothing of the directory is in motion any more.
	Release(ctx context.Context, r *events.ReleaseRequested) (mark events.Mark, quiesced bool, err error)
}

// Run is the agent of one service of a node, until ctx ends. It returns an error only if
// it could not start. When it returns nothing of the Holder runs any more, and the
// notifier was told that the service left: a service therefore ends ctx after it has
// closed its directories, or together with them.
//
//	          ┌ beat: each second, at a roll call, once when leaving
//	Run ──────┤
//	          └ desk: control requests, a goroutine each, in order per directory
func Run(ctx context.Context, b *bus.Bus, node site.Node, service string, h Holder, log *slog.Logger) error {
	log = log.With("service", service, "node", node.Name)
	beat := func(leaving bool) {
		err := b.Send(&events.Heartbeat{
			Node: node.Name, Service: service, Incarnation: node.Incarnation, Data: node.DataID,
			Leaving: leaving, At: events.InstantOf(time.Now()),
		})
		if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			log.Warn("heartbeat not sent", "error", err)
		}
	}
	desk := newDesk(node, service, h, log)
	work, stopWork := context.WithCancel(ctx)
	defer func() { stopWork(); desk.wait() }()

	control, err := b.Conn().Subscribe(events.ControlSubject(node.Name, service), func(m *nats.Msg) { desk.take(work, m) })
	if err != nil {
		return fmt.Errorf("listen for control requests of %s at %s: %w", service, node.Name, err)
	}
	defer func() { _ = control.Unsubscribe() }() // fails only with the connection
	rollCall, err := b.Conn().Subscribe(events.RollCallSubject, func(*nats.Msg) { beat(false) })
	if err != nil {
		return fmt.Errorf("listen for roll calls: %w", err)
	}
	// The subscription must stand at the server before anybody hears of the service:
	// the first request would otherwise find no one.
	if err := b.Conn().Flush(); err != nil {
		return fmt.Errorf("announce %s at %s: %w", service, node.Name, err)
	}
	beat(false)
	keepBeating(ctx, beat)

	// A roll call must not be answered after the leave.
	_ = rollCall.Unsubscribe()
	_ = control.Unsubscribe()
	stopWork()
	desk.wait()
	beat(true)
	_ = b.Conn().FlushTimeout(leaveTime) // silence says the same, later
	return nil
}

func keepBeating(ctx context.Context, beat func(leaving bool)) {
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			beat(false)
		case <-ctx.Done():
			return
		}
	}
}

// desk takes control requests, keeps them in order and remembers the answers.
type desk struct {
	node    site.Node
	service string
	holder  Holder
	log     *slog.Logger
	slots   chan struct{} // bounds what runs at a time
	running sync.WaitGroup

	mu sync.Mutex // protects what follows
	// closed is set once nothing more may start, so that running can be waited for.
	closed bool
	calls  map[string]*call // by operation: under way, or answered lately
	done   []string         // operations answered, oldest first
	last   map[events.DirectoryID]*call
	// refused counts requests that made no sense.
	refused uint64
}

// call is one operation. answer is set before done is closed; nil is no answer.
type call struct {
	done   chan struct{}
	answer []byte
}

const (
	parallelMax = 32
	waitingMax  = 4096 // requests that wait or run
	answersMax  = 1024 // answers kept for duplicates
)

func newDesk(node site.Node, service string, h Holder, log *slog.Logger) *desk {
	return &desk{
		node: node, service: service, holder: h, log: log,
		slots: make(chan struct{}, parallelMax),
		calls: map[string]*call{},
		last:  map[events.DirectoryID]*call{},
	}
}

func (d *desk) wait() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.running.Wait()
}
