package nbd

import (
	"cmp"
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// freeBytes is how much memory of each connection's requests in flight does not count
// in the server's budget: small requests wait for nobody else's large ones.
const freeBytes = 256 << 10

// errNoBudget says that a request has to wait for the server's budget.
var errNoBudget = errors.New("too many bytes are in flight")

const (
	// copyMax is the largest reply that is copied next to others: below it, copying is
	// cheaper than one more piece for the kernel to gather.
	copyMax = 1 << 10
	// gatherBytes is where one system call's worth of replies is closed.
	gatherBytes = 1 << 20
)

// outbox holds the requests of a connection from admission until their reply is
// written, counts them, and writes. Requests are admitted by the reader, pushed by
// whoever completes them, and written by one goroutine.
type outbox struct {
	conn        net.Conn
	stall       time.Duration
	requestsMax int
	bytesMax    int
	release     func([]*request) // takes back what was written
	budget      *semaphore.Weighted
	wake        chan struct{} // holds one: there is something to do

	mu       sync.Mutex
	change   sync.Cond  // of mu: anything below fell, or failed or abandoned was set
	queue    []*request // completed, oldest first
	requests int        // admitted and not yet written
	bytes    int        // their weight
	working  int        // of these, those that the device was given
	failed   error      // the first failure to write: from then on replies are thrown away
	closing  bool       // nothing is pushed any more
	dropped  bool       // waiting for what is outstanding was given up
	corked   bool       // the writer is not woken for each reply
	stopped  bool       // the writer has ended
	free     int        // memory of those requests that are not in the budget
	wanted   int        // memory of the one that waits for the budget
	relieve  func()     // not nil while one does: lets it look again
	quit     error      // why none is to wait for it any more

	uncorking *time.Timer // ends a cork that the reader forgot; the reader's own

	// The writer's own.
	taken  []*request
	small  []byte // copies of small replies
	pieces net.Buffers
}

func newOutbox(conn net.Conn, l Limits, budget *semaphore.Weighted, release func([]*request)) *outbox {
	o := &outbox{
		conn:        conn,
		stall:       l.StallTime,
		requestsMax: l.RequestsPerConn,
		bytesMax:    l.BytesPerConn,
		release:     release,
		budget:      budget,
		wake:        make(chan struct{}, 1),
		small:       make([]byte, 0, 64<<10),
	}
	o.change.L = &o.mu
	o.uncorking = time.AfterFunc(time.Hour, o.uncork)
	o.uncorking.Stop()
	return o
}

// admit waits until r fits into the connection's limits and counts it. A single request
// always fits. It returns an error, and counts nothing, when replies cannot be written
// any more, and errNoBudget when r does not fit into the server's budget: await waits
// for that.
func (o *outbox) admit(r *request) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.corked && (o.requests >= o.requestsMax || o.bytes+r.weight > o.bytesMax) {
		o.corked = false
		o.signal()
	}
	for o.failed == nil && o.requests > 0 && (o.requests >= o.requestsMax || o.bytes+r.weight > o.bytesMax) {
		o.change.Wait()
	}
	if o.failed != nil {
		return o.failed
	}
	if !o.claim(r) {
		return errNoBudget
	}
	o.count(r)
	return nil
}

// claim finds room for r within freeBytes or the budget, if there is any. The caller
// holds mu.
func (o *outbox) claim(r *request) bool {
	if o.free+r.memory <= freeBytes {
		o.free += r.memory
		return true
	}
	r.counted = o.budget.TryAcquire(int64(r.memory))
	return r.counted
}

// count puts r on the books. The caller holds mu.
func (o *outbox) count(r *request) {
	o.requests++
	o.bytes += r.weight
	if r.working {
		o.working++
	}
}

// await waits until r, which fits otherwise, fits into the budget or within freeBytes,
// and counts it. It returns an error, and counts nothing, when replies cannot be written
// any more, ctx ends or giveUp was called.
func (o *outbox) await(ctx context.Context, r *request) error {
	o.uncork()
	o.mu.Lock()
	defer o.mu.Unlock()
	for !r.counted && !o.claim(r) {
		if err := cmp.Or(o.failed, o.quit, ctx.Err()); err != nil {
			return err
		}
		waiting, cancel := context.WithCancel(ctx)
		o.wanted, o.relieve = r.memory, cancel
		o.mu.Unlock()
		r.counted = o.budget.Acquire(waiting, int64(r.memory)) == nil
		cancel()
		o.mu.Lock()
		o.relieve = nil
	}
	o.count(r)
	return nil
}

// giveUp lets nobody wait for the budget any more: await returns err.
func (o *outbox) giveUp(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.quit = err
	o.recheck()
}

// recheck lets who waits for the budget look again if there is a reason to: else it
// keeps its place in the queue. The caller holds mu.
func (o *outbox) recheck() {
	if o.relieve != nil && (o.failed != nil || o.quit != nil || o.free+o.wanted <= freeBytes) {
		o.relieve()
	}
}

// push hands over a completed request. It never blocks for the client's sake.
func (o *outbox) push(r *request) {
	o.mu.Lock()
	if o.stopped {
		defer o.mu.Unlock()
		o.giveBack(o.subtract([]*request{r}))
		return
	}
	o.queue = append(o.queue, r)
	wake := len(o.queue) == 1 && !o.corked // else who was first has woken the writer
	o.mu.Unlock()
	if wake {
		o.signal()
	}
}

// corkTime bounds how long a cork can hold a reply back, should a device let the reader
// wait in the middle of a batch.
const corkTime = time.Millisecond

// cork lets replies gather while the reader has more requests at hand.
func (o *outbox) cork() {
	o.mu.Lock()
	o.corked = true
	o.mu.Unlock()
	o.uncorking.Reset(corkTime)
}

// uncork lets the writer have what has gathered.
func (o *outbox) uncork() {
	o.mu.Lock()
	o.corked = false
	wake := len(o.queue) > 0
	o.mu.Unlock()
	if wake {
		o.signal()
	}
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run writes replies until finish.
func (o *outbox) run() {
	for range o.wake {
		for o.next() {
			err := o.write()
			o.settle(err)
		}
		o.mu.Lock()
		o.stopped = o.closing && len(o.queue) == 0
		stopped := o.stopped
		o.mu.Unlock()
		if stopped {
			return
		}
	}
}

// next takes what is in the queue; it reports whether that is anything.
func (o *outbox) next() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.taken, o.queue = o.queue, o.taken[:0]
	return len(o.taken) > 0
}

// settle takes the written (or lost) requests off the books.
func (o *outbox) settle(err error) {
	o.mu.Lock()
	if err != nil && o.failed == nil {
		o.failed = err
		// The reader may be waiting for a client that will not hear any more.
		_ = o.conn.Close()
	}
	budget := o.subtract(o.taken)
	o.mu.Unlock()
	o.release(o.taken)
	o.giveBack(budget)
	clear(o.taken)
}

// subtract takes requests off the books, but for their part in the budget, in bytes,
// which it returns. The caller holds mu.
func (o *outbox) subtract(rs []*request) (budget int) {
	for _, r := range rs {
		o.requests--
		o.bytes -= r.weight
		if r.working {
			o.working--
		}
		if r.counted {
			budget += r.memory
		} else {
			o.free -= r.memory
		}
	}
	o.recheck()
	o.change.Broadcast()
	return budget
}

// giveBack returns n bytes to the budget.
func (o *outbox) giveBack(n int) {
	if n > 0 {
		o.budget.Release(int64(n))
	}
}

// engage counts an admitted request as one that the device has, from now on.
func (o *outbox) engage(r *request) {
	if r.working {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	r.working = true
	o.working++
}

// forget takes an admitted request off the books that gets no reply, because it did not
// arrive whole.
func (o *outbox) forget(r *request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.giveBack(o.subtract([]*request{r}))
}

// write sends the taken replies in as few system calls as the limits on their size
// allow.
func (o *outbox) write() error {
	o.mu.Lock()
	err := o.failed
	o.mu.Unlock()
	pending := 0
	for _, r := range o.taken {
		if err != nil {
			return err
		}
		reply := r.reply
		if len(reply) <= copyMax && len(o.small)+len(reply) <= cap(o.small) {
			o.add(reply)
			pending += len(reply)
			continue
		}
		for len(reply) > 0 && err == nil {
			part := reply[:min(len(reply), stride)]
			o.pieces = append(o.pieces, part)
			reply = reply[len(part):]
			if pending += len(part); pending >= gatherBytes {
				err = o.send()
				pending = 0
			}
		}
	}
	if err == nil && len(o.pieces) > 0 {
		err = o.send()
	}
	return err
}

// add copies a small reply to the end of what is to be sent.
func (o *outbox) add(reply []byte) {
	start := len(o.small)
	o.small = append(o.small, reply...)
	if n := len(o.pieces); n > 0 && start > 0 {
		last := o.pieces[n-1]
		// The last piece may be the copy right before this one: then it just grows.
		if &last[len(last)-1] == &o.small[start-1] {
			o.pieces[n-1] = o.small[start-len(last) : len(o.small)]
			return
		}
	}
	o.pieces = append(o.pieces, o.small[start:])
}

// send writes the gathered pieces.
func (o *outbox) send() error {
	if err := o.conn.SetWriteDeadline(time.Now().Add(o.stall)); err != nil {
		return err
	}
	var err error
	if len(o.pieces) == 1 {
		_, err = o.conn.Write(o.pieces[0])
	} else {
		rest := o.pieces // WriteTo consumes the slice that it is called on
		_, err = rest.WriteTo(o.conn)
	}
	clear(o.pieces)
	o.pieces, o.small = o.pieces[:0], o.small[:0]
	return err
}

// drain waits until the device has no request of this connection left and its replies
// are written, or until abandon. It reports which.
func (o *outbox) drain() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.working > 0 && !o.dropped {
		o.change.Wait()
	}
	return o.working == 0
}

// abandon ends drain's waiting, and the writer's.
func (o *outbox) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dropped = true
	_ = o.conn.Close()
	o.change.Broadcast()
}

// finish lets run return once the queue is written. A push after that is not written.
func (o *outbox) finish() {
	o.mu.Lock()
	o.closing = true
	o.mu.Unlock()
	o.signal()
}
