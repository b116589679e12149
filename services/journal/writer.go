package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
	"tidemark/internal/tail"
)

const (
	// fullTime is how long a batch waits for a full log to be trimmed: an NBD request
	// is never blocked for ever.
	fullTime = 30 * time.Second
	// answerTime is how long a batch waits for a log that does not answer. Whether it
	// was stored is then found out when the directory is opened again.
	answerTime    = 30 * time.Second
	fullRetryTime = 200 * time.Millisecond
	// entryOverhead is at least what an entry takes besides data and versions, in bytes.
	entryOverhead  = 64
	versionBytes   = 9
	spareBuffers   = 32
	spareBytesMax  = 2 * events.BatchBytesMax
	bufferBytesMin = 64 << 10
)

// errTagFull ends a tag whose entries have run out; the directory is opened anew with
// another one.
var errTagFull = errors.New("the tag's entries have run out")

// writer gives every change of a directory its place in the log. Changes that arrive
// while one message is under way gather in the next.
type writer struct {
	replica *replica.Replica
	log     *bus.Log
	tail    *tail.Tail
	subject string
	tag     events.Tag
	now     func() time.Time
	// full is told when the log begins and ends to refuse for want of room, and each
	// time that it refuses.
	full     func(ctx context.Context, full bool)
	fullTime time.Duration

	// operation serialises operations, each of which has the directory to itself.
	operation sync.Mutex

	mu sync.Mutex
	// queue holds the batches that are not sealed yet, oldest first; entries go into
	// the last one.
	queue []*openBatch
	// next is the number of the next entry; zero when the tag is used up.
	next uint32
	// pending holds the version of each object that has a logged or queued change
	// which the replica does not have yet.
	pending map[objectKey]events.Position
	scratch []events.Position
	paused  int  // how many want changes to wait
	sealing bool // a batch is between queue and log
	failure error
	changed *sync.Cond // of mu: paused, sealing, queue or failure
	kick    chan struct{}

	// logged holds the buffers of logged batches until they are applied, oldest first.
	logged [][]byte
	spare  [][]byte

	// mark is the end of the log, and refusing since when the log has been full, zero
	// while it is not; only run uses them.
	mark     events.Mark
	refusing time.Time
}

type objectKey struct {
	image events.ImageID
	index uint64
}

type openBatch struct {
	builder     *events.BatchBuilder
	completions []completion
	reserved    int // bytes promised by the tail's Room
}

type completion struct {
	done func(error)
	safe bool // done waits until the change is safe
}

// newWriter returns a writer for a tag that was just claimed with the mark claim.
func newWriter(r *replica.Replica, log *bus.Log, t *tail.Tail, subject string, claim events.Mark) *writer {
	w := &writer{
		replica: r, log: log, tail: t, subject: subject,
		tag: claim.Position.Tag(), mark: claim, next: 1,
		now:      time.Now,
		full:     func(context.Context, bool) {},
		fullTime: fullTime,
		pending:  map[objectKey]events.Position{},
		kick:     make(chan struct{}, 1),
	}
	w.changed = sync.NewCond(&w.mu)
	return w
}

// change is one event on a range of an image, ready for the log.
type change struct {
	image  *replica.Image
	event  events.Event
	offset uint64 // bytes
	length uint64 // bytes, at least 1
	bytes  int    // of data
	safe   bool   // complete only when safe
}

// submit gives a change its place in the log. It returns as soon as it has one; done
// is called once when the change is logged (or safe, where that was asked), or has failed.
func (w *writer) submit(ctx context.Context, c change, done func(error)) {
	first, count := replica.Objects(c.offset, c.length, c.image.ObjectSize())
	size := entryOverhead + c.bytes + int(count)*versionBytes
	if err := w.tail.Room(ctx, size); err != nil {
		done(err)
		return
	}
	if err := w.enqueue(c, first, count, size, done); err != nil {
		w.tail.Return(size)
		done(err)
	}
}

func (w *writer) enqueue(c change, first, count uint64, size int, done func(error)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.paused > 0 && w.failure == nil {
		w.changed.Wait()
	}
	switch {
	case w.failure != nil:
		return w.failure
	case w.gone(c.image):
		return fault.New(fault.NotFound, "the image was removed")
	case c.offset+c.length > c.image.Size():
		return fault.New(fault.NoSpace, "the range ends beyond the image")
	case w.next == 0:
		return errTagFull
	}
	position := events.At(w.tag, w.next)
	w.scratch = w.scratch[:0]
	for index := first; index < first+count; index++ {
		key := objectKey{c.image.ID(), index}
		version, isPending := w.pending[key]
		if !isPending {
			version = c.image.ObjectVersion(index)
		}
		w.scratch = append(w.scratch, version)
		w.pending[key] = position
	}
	w.place(events.Entry{Before: w.scratch, Event: c.event}, size, completion{done, c.safe})
	return nil
}

func (w *writer) gone(image *replica.Image) bool {
	now, ok := w.replica.Image(image.ID())
	return !ok || now != image
}

// place puts an entry into the open batch. It is called under the lock.
func (w *writer) place(e events.Entry, size int, c completion) {
	var open *openBatch
	if n := len(w.queue); n > 0 {
		open = w.queue[n-1]
	}
	if open == nil || open.builder.Size()+size > events.BatchBytesMax {
		open = &openBatch{builder: events.NewBatchBuilder(w.buffer())}
		w.queue = append(w.queue, open)
	}
	open.builder.Append(e)
	open.completions = append(open.completions, c)
	open.reserved += size
	w.next++ // wraps to zero after MaxEntry
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// buffer is called under the lock.
func (w *writer) buffer() []byte {
	if n := len(w.spare); n > 0 {
		b := w.spare[n-1]
		w.spare = w.spare[:n-1]
		return b
	}
	return make([]byte, 0, bufferBytesMin)
}

// run publishes batches until ctx ends and the queue is empty, or one fails. The error
// is kept: every later change gets it.
func (w *writer) run(ctx context.Context) error {
	for {
		b := w.take()
		if b != nil {
			err := w.publish(ctx, b)
			if errors.Is(err, bus.ErrFull) && ctx.Err() == nil {
				err = w.refuse(ctx, err, b)
				b = nil
			}
			if err == nil {
				err, b = w.usedUp(), nil
			}
			if err != nil {
				w.fail(err, b)
				return err
			}
			continue
		}
		select {
		case <-w.kick:
		case <-ctx.Done():
			if w.stop() {
				return nil
			}
		}
	}
}

// take removes the oldest batch from the queue.
func (w *writer) take() *openBatch {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sealing = len(w.queue) > 0
	if !w.sealing {
		w.changed.Broadcast()
		return nil
	}
	b := w.queue[0]
	w.queue[0] = nil
	w.queue = w.queue[1:]
	return b
}

// usedUp returns errTagFull once the tag's last entry was published.
func (w *writer) usedUp() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next == 0 && len(w.queue) == 0 {
		return errTagFull
	}
	return nil
}

var errClosed = fault.New(fault.NotReady, "the directory is closing")

// stop refuses further changes; it reports whether none is left.
func (w *writer) stop() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure == nil {
		w.failure = errClosed
	}
	w.changed.Broadcast()
	return len(w.queue) == 0
}

// publish logs a batch and completes its changes. This is the commit point of a write:
// once Append has returned, the write survives the death of this process.
func (w *writer) publish(ctx context.Context, b *openBatch) error {
	msg, end := b.builder.Seal(w.tag, w.mark, w.tail.Marks().Safe.Position, events.InstantOf(w.now()))
	seq, err := w.append(ctx, msg)
	if err != nil {
		return err
	}
	batch, err := events.DecodeBatch(msg)
	if err != nil {
		return fmt.Errorf("batch that was just written: %w", err)
	}
	w.mark = end
	w.mu.Lock()
	w.logged = append(w.logged, msg)
	w.mu.Unlock()
	w.tail.Logged(batch, seq, len(msg))
	w.tail.Return(b.reserved)
	w.complete(b.completions)
	return nil
}

func (w *writer) complete(all []completion) {
	var safe []func(error)
	for _, c := range all {
		if c.safe {
			safe = append(safe, c.done)
		} else {
			c.done(nil)
		}
	}
	if safe == nil {
		return
	}
	w.tail.WhenSafe(func(err error) {
		for _, done := range safe {
			done(err)
		}
	})
}

// append stores a message behind the last one. While the log is full it waits, once:
// when that has taken fullTime, this and all further messages are given up at once until
// one finds room again.
func (w *writer) append(ctx context.Context, msg []byte) (uint64, error) {
	last := w.tail.LastSequence()
	for {
		seq, err := w.appendOnce(ctx, msg, last)
		if !errors.Is(err, bus.ErrFull) {
			if err == nil && !w.refusing.IsZero() {
				w.refusing = time.Time{}
				w.full(ctx, false)
			}
			return seq, err
		}
		if w.refusing.IsZero() {
			w.refusing = w.now()
		}
		w.full(ctx, true)
		if w.now().Sub(w.refusing) >= w.fullTime {
			return 0, fault.New(fault.NoSpace, "the journal is full: %w", err)
		}
		again := time.NewTimer(fullRetryTime)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return 0, fault.New(fault.NoSpace, "the journal is full: %w", err)
		}
	}
}

// refuse gives up the changes that a full log did not take, and makes their positions
// free again: nobody has seen them. What was logged before stays; the directory goes on.
func (w *writer) refuse(ctx context.Context, err error, under *openBatch) error {
	w.mu.Lock()
	w.paused++
	lost := append([]*openBatch{under}, w.queue...)
	w.queue = nil
	w.mu.Unlock()
	w.giveUp(err, lost)
	// With everything logged applied, the replica knows the version of every object.
	err = w.tail.Drain(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.pending)
	w.next = w.mark.Position.Entry() + 1
	w.paused--
	w.changed.Broadcast()
	return err
}

// giveUp completes changes that were not logged.
func (w *writer) giveUp(err error, lost []*openBatch) {
	for _, b := range lost {
		w.tail.Return(b.reserved)
		for _, c := range b.completions {
			c.done(err)
		}
	}
}

// appendOnce stores a message even while the directory closes: it was taken.
func (w *writer) appendOnce(ctx context.Context, msg []byte, last uint64) (uint64, error) {
	if err := w.log.Room(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
	defer cancel()
	return w.log.Append(ctx, w.subject, msg, last)
}

// fail refuses all further changes and completes those that were not logged. under is
// the batch that was on its way, or nil.
func (w *writer) fail(err error, under *openBatch) {
	w.mu.Lock()
	w.failure = err
	lost := w.queue
	if under != nil {
		lost = append([]*openBatch{under}, lost...)
	}
	w.queue = nil
	w.sealing = false
	w.changed.Broadcast()
	w.mu.Unlock()
	w.giveUp(err, lost)
}

// applied forgets what the replica now has, and takes the batch's memory back. The tail
// calls it in the order of the log.
func (w *writer) applied(b *events.Batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, e := range b.Entries {
		w.forget(b.Position(i), e)
	}
	buf := w.logged[0]
	w.logged[0] = nil
	w.logged = w.logged[1:]
	if cap(buf) <= spareBytesMax && len(w.spare) < spareBuffers {
		w.spare = append(w.spare, buf[:0])
	}
}

// forget is called under the lock.
func (w *writer) forget(position events.Position, e events.Entry) {
	image, offset, length, ok := events.Range(e.Event)
	if !ok {
		return
	}
	img, ok := w.replica.Image(image)
	if !ok {
		return
	}
	first, count := replica.Objects(offset, length, img.ObjectSize())
	for index := first; index < first+count; index++ {
		key := objectKey{image, index}
		if w.pending[key] == position {
			delete(w.pending, key)
		}
	}
}
