package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
)

const (
	// fullTime is how long a batch waits for a full log to be trimmed: an NBD request
	// is never blocked for ever.
	fullTime = 30 * time.Second
	// answerTime is how long a batch waits for a log that does not answer. Whether it
	// was stored is then found out when the directory is opened again.
	answerTime    = 30 * time.Second
	fullRetryTime = 200 * time.Millisecond
)

// run publishes batches until ctx ends and the queue is empty, or one fails. The error
// is kept: every later change gets it.
func (w *writer) run(ctx context.Context) error {
	later := time.NewTimer(time.Hour)
	defer later.Stop()
	for {
		b, wait := w.take()
		if b != nil {
			err := w.publish(ctx, b)
			if errors.Is(err, bus.ErrFull) && ctx.Err() == nil {
				err = w.refuse(ctx, err, b)
				b = nil
			}
			if err != nil {
				w.fail(err, b)
				return err
			}
			continue
		}
		var due <-chan time.Time
		if wait >= 0 {
			later.Reset(wait)
			due = later.C
		}
		select {
		case <-w.kick:
		case <-due:
		case <-ctx.Done():
			if w.stop() {
				return nil
			}
		}
	}
}

// take removes the oldest batch from the queue if it is to go out. Otherwise it returns
// how long until one may be, a negative time when only a kick can tell.
func (w *writer) take() (*openBatch, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wait := time.Duration(-1)
	if len(w.queue) == 0 {
		wait = w.ripeMarker()
	}
	if len(w.queue) > 0 {
		var due bool
		if due, wait = w.due(); due {
			b := w.queue[0]
			w.queue[0] = nil
			w.queue = w.queue[1:]
			w.sealing = true
			return b, 0
		}
	}
	w.sealing = false
	w.changed.Broadcast()
	return nil, wait
}

// due says whether the oldest batch goes out now, and otherwise after how long. It is
// called under the lock.
func (w *writer) due() (bool, time.Duration) {
	b := w.queue[0]
	if !w.settings.holdsBack(w.marker.flushed) || b.forced || len(w.queue) > 1 || w.paused > 0 || w.failure != nil {
		return true, 0
	}
	return w.settings.due(b.builder.Count(), b.builder.Size(), w.now().Sub(b.opened))
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
	if b.claim != "" {
		return w.publishClaim(ctx, b)
	}
	now := events.InstantOf(w.now())
	msg, end := b.builder.Seal(b.tag, w.mark, w.tail.Marks().Safe.Position, now)
	err := w.whileFull(ctx, func() (err error) {
		var seq uint64
		if seq, err = w.append(ctx, msg, w.tail.LastSequence()); err == nil {
			err = w.stored(msg, end, seq)
		}
		return err
	})
	if err != nil {
		return err
	}
	if b.published != nil {
		*b.published = now
	}
	w.tail.Return(b.reserved)
	w.complete(b.completions)
	return nil
}

// loggedBatch is a batch and the memory that it lies in.
type loggedBatch struct {
	batch  *events.Batch
	buffer []byte
}

// stored hands a logged message over to the tail.
func (w *writer) stored(msg []byte, end events.Mark, seq uint64) error {
	msg = w.buffers.fit(msg)
	batch, err := events.DecodeSealed(msg)
	if err != nil {
		return fmt.Errorf("batch that was just written: %w", err)
	}
	w.mark, w.within = end, batch.Open()
	w.mu.Lock()
	w.logged = append(w.logged, loggedBatch{batch, msg})
	w.mu.Unlock()
	w.tail.Logged(batch, seq, cap(msg))
	return nil
}

// publishClaim logs the claim of the tag that the next batches belong to.
func (w *writer) publishClaim(ctx context.Context, b *openBatch) error {
	err := w.whileFull(ctx, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
		defer cancel()
		mark, err := w.claim(ctx, b.tag, b.claim)
		if err == nil {
			w.mark, w.within = mark, false
		}
		return err
	})
	if err != nil {
		return err
	}
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

// whileFull tries to store a message while the log is full, once: when that has taken
// fullTime, this and all further messages are given up at once until one finds room
// again.
func (w *writer) whileFull(ctx context.Context, store func() error) error {
	for {
		err := store()
		if !errors.Is(err, bus.ErrFull) {
			if err == nil && !w.refusing.IsZero() {
				w.refusing = time.Time{}
				w.full(false)
			}
			return err
		}
		if w.refusing.IsZero() {
			w.refusing = w.now()
		}
		w.full(true)
		if w.now().Sub(w.refusing) >= w.fullTime {
			return fault.New(fault.NoSpace, "the journal is full: %w", err)
		}
		again := time.NewTimer(fullRetryTime)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return fault.New(fault.NoSpace, "the journal is full: %w", err)
		}
	}
}

// append stores a message behind the last one, even while the directory closes: it was
// taken.
func (w *writer) append(ctx context.Context, msg []byte, last uint64) (uint64, error) {
	if err := w.log.Room(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
	defer cancel()
	return w.log.Append(ctx, w.subject, msg, last)
}

// applied forgets what the replica now has, and takes the batch's memory back. The tail
// calls it in the order of the log.
func (w *writer) applied(b *events.Batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, e := range b.Entries {
		w.forget(b.Position(i), e)
	}
	if len(w.logged) == 0 || w.logged[0].batch != b {
		return // not ours: the log had ended inside a run, which our claim made void
	}
	buf := w.logged[0].buffer
	w.logged[0] = loggedBatch{}
	w.logged = w.logged[1:]
	w.buffers.put(buf)
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
