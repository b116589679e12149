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
//   - An incarnation that is gone never comes back. The agent reads INSTANCES: when it finds
//     that its incarnation was taken for dead there, or that another took its place, or a
//     directory finds that it was fenced, then everything is let go of, and only after that
//     the service is announced again, as a new incarnation.
//
// # An incarnation
//
//	            heard                    gone by the log, or fenced
//	announced ─────────► held: requests ────────────────────────────► letting go
//	    ▲                                                                 │ all is let go of
//	    │ nobody else lives by the name                                   ▼
//	    └──────────── a new incarnation ◄────────────────────────────── waiting
//
// Whoever was stopped (SIGSTOP, a link that was cut) for longer than the notifier's silence
// finds the word on it in INSTANCES as soon as it goes on. If a notifier was wrong about it,
// or two disagree, the price is that it lets go and begins anew; nothing is held twice. Of
// two processes by one name the newer has it, and the older one waits until that is gone:
// else each would end the other for ever.
package instance

import (
	"context"
	"log/slog"
	"sync"

	"tidemark/events"
	"tidemark/internal/site"
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

// Fenceable is a [Holder] that finds out by itself that the log takes its word no more.
type Fenceable interface {
	// Fenced delivers the incarnation that found so.
	Fenced() <-chan string
}

// Closing is a [Holder] whose directories end together with the agent.
type Closing interface {
	// AwaitClosed returns when nothing is held any more, at once if what is held does not
	// end now.
	AwaitClosed()
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
	// held is what may be held: asked for, and not let go of.
	held map[events.DirectoryID]*events.AcquireRequested
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
		held:  map[events.DirectoryID]*events.AcquireRequested{},
	}
}

func (d *desk) wait() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.running.Wait()
}
