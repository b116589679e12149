package nbd

import "sync"

// readQueue hands requests to a pool of goroutines that grows as it is needed.
//
// Waking a goroutine costs more than a read from memory. So at most one is being woken
// at a time, and whoever runs first wakes the next if there is still work: reads that
// are fast are done by one or two goroutines, one after the other; reads that block
// bring up, within microseconds of each other, as many as the limit allows.
//
// While requests are queued, a goroutine is being woken or all are busy.
type readQueue struct {
	limit   int            // goroutines
	serve   func(*request) // what they do
	running sync.WaitGroup

	mu      sync.Mutex // guards what follows
	work    sync.Cond  // of mu: a goroutine was woken, or closed was set
	queue   []*request // queue[next:] waits
	next    int
	started int
	idle    int  // of those started, waiting for work
	waking  bool // one of them was woken, or is starting, and has not run yet
	closed  bool
}

func newReadQueue(limit int, serve func(*request)) *readQueue {
	q := &readQueue{limit: limit, serve: serve}
	q.work.L = &q.mu
	return q
}

// push queues a request. It never blocks.
func (q *readQueue) push(r *request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next > 0 && len(q.queue) == cap(q.queue) {
		// Under steady load the queue is never empty: move it down rather than grow.
		n := copy(q.queue, q.queue[q.next:])
		clear(q.queue[n:])
		q.queue, q.next = q.queue[:n], 0
	}
	q.queue = append(q.queue, r)
	q.wake()
}

// wake brings up one more goroutine, if that is of use. The caller holds mu.
func (q *readQueue) wake() {
	switch {
	case q.waking:
	case q.idle > 0:
		q.waking = true
		q.work.Signal()
	case q.started < q.limit:
		q.waking = true
		q.started++
		q.running.Go(q.loop)
	}
}

// loop serves requests until close.
func (q *readQueue) loop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waking = false
	for {
		for q.next == len(q.queue) {
			if q.closed {
				return
			}
			q.idle++
			q.work.Wait()
			q.idle--
			q.waking = false
		}
		r := q.queue[q.next]
		q.queue[q.next] = nil
		if q.next++; q.next == len(q.queue) {
			q.queue, q.next = q.queue[:0], 0
		} else {
			q.wake()
		}
		q.mu.Unlock()
		q.serve(r)
		q.mu.Lock()
	}
}

// close lets the goroutines end once the queue is empty.
func (q *readQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.work.Broadcast()
}

// wait waits for the goroutines to end.
func (q *readQueue) wait() { q.running.Wait() }
