package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/tail"
)

// Back-off of a directory that failed, doubling from the first to the last.
const (
	reopenFirst = 250 * time.Millisecond
	reopenLast  = 30 * time.Second
)

// directory is one directory that this node was told to own. It goes through one life
// after another until it is released.
type directory struct {
	service *Service
	id      events.DirectoryID
	name    events.DirectoryName
	log     *slog.Logger
	tenure  *holder.Tenure
	cancel  context.CancelFunc
	ended   chan struct{} // closed when run has returned
	// closeErr is why the close could not make safe what was taken; known once ended.
	closeErr error

	mu       sync.Mutex
	state    State
	err      error // of the last life
	life     *life // the latest that was ready
	sessions map[sessionKey]int
	opened   int           // lives so far
	changed  chan struct{} // closed and replaced when state changes
	full     bool          // the log refuses for want of room
	closing  closing
	// splits are the split brains that were seen, by the UUID of the other site.
	splits map[string]*api.Split
}

func newDirectory(s *Service, r *events.AcquireRequested) *directory {
	name := events.DirectoryName{Pool: r.Pool, Path: r.Path}
	return &directory{
		service:  s,
		id:       r.Directory,
		name:     name,
		tenure:   s.shared.Tenure(r.Assignment),
		log:      s.deps.Log.With("directory", name.String()),
		ended:    make(chan struct{}),
		state:    Closed,
		sessions: map[sessionKey]int{},
		splits:   map[string]*api.Split{},
		changed:  make(chan struct{}),
	}
}

// run opens the directory and serves it until ctx ends; what was acknowledged is safe
// when it returns. reason says why the first tag is claimed.
func (d *directory) run(ctx context.Context, reason events.TagReason) {
	defer close(d.ended)
	stop, err := d.answerStatus(ctx)
	if err != nil {
		d.enter(Opening, nil)
		d.enter(Failed, err)
		return
	}
	defer stop()
	d.lives(ctx, reason)
	d.end(nil)
}

// lives opens the directory again and again until ctx ends or another writer has it.
func (d *directory) lives(ctx context.Context, reason events.TagReason) {
	failures, wait := 0, reopenFirst
	for ctx.Err() == nil {
		d.enter(Opening, nil)
		started := time.Now()
		err := d.live(ctx, reason)
		switch {
		case ctx.Err() != nil:
			d.end(err)
			return
		case errors.Is(err, bus.ErrOvertaken), errors.Is(err, tail.ErrFenced):
			d.fenced(err)
			<-ctx.Done()
			return
		}
		if time.Since(started) > reopenLast {
			failures, wait = 0, reopenFirst
		}
		failures++
		d.failed(err, afterFailure(failures), wait)
		reason = d.nextReason(reason)
		if d.rest(ctx, wait, err) {
			reason = events.TagLost
		}
		wait = min(2*wait, reopenLast)
	}
}

// fenced notes that the directory is another's now.
func (d *directory) fenced(err error) {
	if !errors.Is(err, tail.ErrFenced) {
		err = fault.New(fault.Fenced, "another writer has taken the directory over: %w", err)
	}
	d.enter(Fenced, err)
	d.log.Error("fenced", "error", err)
	d.note(events.Fenced, events.Mark{}, err.Error())
}

// failed notes that a life has ended with an error.
func (d *directory) failed(err error, state State, wait time.Duration) {
	d.enter(state, err)
	d.log.Error("directory failed; it will be opened again", "error", err, "wait", wait)
	d.note(events.Failed, events.Mark{}, err.Error())
	if errors.Is(err, tail.ErrLostTail) || errors.Is(err, bus.ErrRolledBack) {
		d.note(events.LostTail, events.Mark{}, err.Error())
	}
}

// end closes the directory; err is of its last life, if that could not make safe what it
// had taken. One that failed before, and was not opened again since, could not either.
func (d *directory) end(err error) {
	state, _ := d.condition()
	if state == Closed {
		return
	}
	if before := d.unsettled(); before != nil && (err == nil || errors.Is(err, context.Canceled)) {
		err = before
	}
	if state.serves() { // the last life failed just when it was told to end
		d.enter(Stopping, nil)
	}
	defer d.announceClosed()
	if state != Closing {
		d.enter(Closing, nil)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		d.closeErr = err
	}
	d.enter(Closed, err)
}

// unsettled returns why a life that took requests has failed, or could not be followed by
// another; nil once one took requests again, which begins with all that the log holds made
// safe. What a fenced directory leaves behind is its successor's.
func (d *directory) unsettled() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opened == 0 || d.state == Fenced {
		return nil
	}
	return d.err
}

// condition returns the state and the error of the last life.
func (d *directory) condition() (State, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state, d.err
}

// stopping notes that requests are no longer taken because the directory is to be closed.
func (d *directory) stopping() {
	if state, _ := d.condition(); state.serves() {
		d.awaitAnnounced()
		d.enter(Stopping, nil)
	}
}

// importing notes that an import has the directory; the returned function that it ended.
func (d *directory) importing() (ended func()) {
	d.swap(Ready, Importing)
	return func() { d.swap(Importing, Ready) }
}

// swap enters a state from another, and does nothing in any else: the life may have ended
// meanwhile.
func (d *directory) swap(from, to State) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state == from {
		d.change(to, nil)
	}
}

// nextReason says why the next life claims a tag. A promotion stays one until a life has
// claimed its tag: what may be refused to it must not become an ordinary opening.
func (d *directory) nextReason(reason events.TagReason) events.TagReason {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opened > 0 {
		return events.TagOpened
	}
	return reason
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// enter changes the state. A transition outside the table is a defect: it is logged and
// made anyway, because a directory that cannot say what it does helps nobody.
func (d *directory) enter(to State, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.change(to, err)
}

// change is enter under the lock.
func (d *directory) change(to State, err error) {
	if _, bad := next(d.state, to); bad != nil {
		d.log.Error("impossible transition", "error", bad)
	}
	d.state = to
	if err != nil || to == Ready {
		d.err = err
	}
	close(d.changed)
	d.changed = make(chan struct{})
}

// ready waits until the directory takes requests, or its first life has failed.
func (d *directory) ready(ctx context.Context) (*life, error) {
	for {
		d.mu.Lock()
		state, life, err, changed := d.state, d.life, d.err, d.changed
		d.mu.Unlock()
		switch {
		case state.serves():
			return life, nil
		case state.broken():
			return nil, err
		}
		select {
		case <-changed:
		case <-d.ended:
			return nil, errClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// current returns the life that takes requests now.
func (d *directory) current() (*life, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state.serves() && !d.life.over() {
		return d.life, nil
	}
	if d.err != nil {
		return nil, fault.New(fault.NotReady, "directory %s is %s: %w", d.name, d.state, d.err)
	}
	return nil, fault.New(fault.NotReady, "directory %s is %s", d.name, d.state)
}

func (d *directory) becameReady(l *life) {
	d.mu.Lock()
	d.life = l
	d.opened++
	d.full = false
	d.mu.Unlock()
	d.note(events.Opened, l.claim.Load().Mark, string(l.claim.Load().Reason))
	d.enter(Ready, nil)
	d.log.Info("directory is ready", "tag", l.claim.Load().Tag, "position", l.claim.Load().Mark.Position.String())
}

// becameFull notes that the log begins or ends to refuse for want of room.
func (d *directory) becameFull(full bool) {
	d.mu.Lock()
	changed := d.full != full
	d.full = full
	d.mu.Unlock()
	switch {
	case changed && full:
		d.log.Error("journal is full; writers wait")
		d.note(events.JournalFull, events.Mark{}, "")
	case changed:
		d.log.Info("journal has room again")
		d.note(events.JournalRoom, events.Mark{}, "")
	}
}

// wrap says which directory an error is about.
func (d *directory) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("directory %s: %w", d.name, err)
}
