package journal

import (
	"context"
	"sync"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
	"tidemark/internal/tail"
)

const (
	// entryOverhead is at least what an entry takes besides data and versions, in bytes.
	entryOverhead = 64
	versionBytes  = 9
)

// writer gives every change of a directory its place in the log. Changes that arrive
// while one message is under way gather in the next.
type writer struct {
	replica  *replica.Replica
	log      *bus.Log
	tail     *tail.Tail
	subject  string
	settings Settings
	now      func() time.Time
	// claim logs a tag behind the last entry, in the writer's own turn.
	claim func(ctx context.Context, tag events.Tag, reason events.TagReason) (events.Mark, error)
	// full is told when the log begins and ends to refuse for want of room, and each
	// time that it refuses.
	full     func(full bool)
	fullTime time.Duration
	// maxEntry is the last entry of a tag.
	maxEntry uint32

	mu sync.Mutex
	// queue holds the batches that are not sealed yet, oldest first; entries go into
	// the last one, unless cut says that a new one is to begin.
	queue []*openBatch
	cut   bool
	// tag and next are where the next entry goes; next may be one behind maxEntry.
	tag  events.Tag
	next uint32
	// pending holds the version of each object that has a logged or queued change
	// which the replica does not have yet.
	pending map[objectKey]events.Position
	scratch []events.Position
	marker  marker
	// owed is to be placed before the next entry.
	owed    []events.Entry
	paused  int  // how many want changes to wait
	rewinds bool // positions are being made free again
	held    bool // one has the directory to itself
	sealing bool // a batch is between queue and log
	failure error
	changed *sync.Cond // of mu: paused, held, rewinds, sealing, queue or failure
	kick    chan struct{}

	// logged holds this writer's logged batches until they are applied, oldest first.
	logged  []loggedBatch
	buffers buffers

	// mark is the end of the log, within says that this lies inside a change of several
	// entries, and refusing since when the log has been full, zero while it is not; only
	// run uses them.
	mark     events.Mark
	within   bool
	refusing time.Time
}

type objectKey struct {
	image events.ImageID
	index uint64
}

// openBatch is a message to be: entries of one tag, or the claim of a tag.
type openBatch struct {
	tag         events.Tag
	claim       events.TagReason // of a claim, which has no entries
	builder     *events.BatchBuilder
	completions []completion
	reserved    int             // bytes promised by the tail's Room
	forced      bool            // goes out as soon as nothing is under way
	opened      time.Time       // when the first entry came, where messages are held back
	published   *events.Instant // set to the message's time before its changes complete; may be nil
}

type completion struct {
	done func(error)
	safe bool // done waits until the change is safe
}

// newWriter returns a writer for a tag that was just claimed with the mark claim.
func newWriter(r *replica.Replica, log *bus.Log, t *tail.Tail, subject string, settings Settings, claim events.Mark) *writer {
	w := &writer{
		replica: r, log: log, tail: t, subject: subject, settings: settings,
		tag: claim.Position.Tag(), mark: claim, next: 1,
		now:      time.Now,
		full:     func(bool) {},
		fullTime: fullTime,
		maxEntry: events.MaxEntry,
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

// size returns at least what a change takes in the log, in bytes.
func (c *change) size() int {
	_, count := replica.Objects(c.offset, c.length, c.image.ObjectSize())
	return entryOverhead + c.bytes + int(count)*versionBytes
}

// submit gives a change its place in the log. It returns as soon as it has one; done
// is called once when the change is logged (or safe, where that was asked), or has failed.
func (w *writer) submit(ctx context.Context, c change, done func(error)) {
	size := c.size()
	if err := w.tail.Room(ctx, size); err != nil {
		done(err)
		return
	}
	if err := w.enqueue(&c, size, done); err != nil {
		w.tail.Return(size)
		done(err)
	}
}

func (w *writer) enqueue(c *change, size int, done func(error)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.awaitTurn()
	if err := w.admit(c, 1); err != nil {
		return err
	}
	w.record(c, events.Part{}, size, completion{done, c.safe})
	return nil
}

// awaitTurn returns when changes are taken, or none any more. It is called under the lock.
func (w *writer) awaitTurn() {
	for w.paused > 0 && w.failure == nil {
		w.changed.Wait()
	}
}

// awaitRewound returns when an entry placed now keeps its position, whoever has paused
// the writer. It is called under the lock.
func (w *writer) awaitRewound() {
	for w.rewinds && w.failure == nil {
		w.changed.Wait()
	}
}

// admit refuses a change that its image cannot take, and makes sure that entries have a
// place in one tag. It is called under the lock.
func (w *writer) admit(c *change, entries uint32) error {
	switch {
	case w.failure != nil:
		return w.failure
	case w.gone(c.image):
		return fault.New(fault.NotFound, "the image was removed")
	case c.image.ReadOnly():
		return errFeatureReadOnly
	case c.offset+c.length > c.image.Size():
		return fault.New(fault.NoSpace, "the range ends beyond the image")
	}
	return w.begin(entries)
}

var errFeatureReadOnly = fault.New(fault.ReadOnly, "the image has the feature %s", events.FeatureReadOnly)

// record places a change with the versions that its objects have at its place. It is
// called under the lock.
func (w *writer) record(c *change, part events.Part, size int, done completion) {
	position := events.At(w.tag, w.next)
	w.scratch = w.scratch[:0]
	first, count := replica.Objects(c.offset, c.length, c.image.ObjectSize())
	for index := first; index < first+count; index++ {
		key := objectKey{c.image.ID(), index}
		version, isPending := w.pending[key]
		if !isPending {
			version = c.image.ObjectVersion(index)
		}
		w.scratch = append(w.scratch, version)
		w.pending[key] = position
	}
	w.marker.changed = true
	w.place(events.Entry{Before: w.scratch, Part: part, Event: c.event}, size, done)
}

func (w *writer) gone(image *replica.Image) bool {
	now, ok := w.replica.Image(image.ID())
	return !ok || now != image
}

// place puts an entry into the open batch, and returns that. It is called under the
// lock, after begin.
func (w *writer) place(e events.Entry, size int, c completion) *openBatch {
	var open *openBatch
	if n := len(w.queue); n > 0 && !w.cut {
		open = w.queue[n-1]
	}
	if open == nil || open.builder.Size()+size > events.BatchBytesMax || open.builder.Size() >= w.settings.FlushBytes {
		open = &openBatch{tag: w.tag, builder: events.NewBatchBuilder(w.buffers.get(batchOverhead + size))}
		if w.settings.FlushAge > 0 {
			open.opened = w.now()
		}
		w.queue = append(w.queue, open)
		w.cut = false
	}
	open.builder.Append(e)
	if c.done != nil {
		open.completions = append(open.completions, c)
	}
	open.forced = open.forced || c.safe
	open.reserved += size
	w.next++
	w.wake()
	return open
}

// wake makes run look at the queue.
func (w *writer) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}
