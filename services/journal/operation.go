package journal

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"tidemark/events"
	"tidemark/internal/fault"
)

// operationsWaiting bounds the operations of a directory that wait for their turn or are
// at their own work.
const operationsWaiting = 64

// commitAge is how long after an operation its checkpoint comes: those that follow it
// closely share it, and do not find the disk busy with it.
const commitAge = 500 * time.Millisecond

// isolation says how far an operation keeps changes from the directory.
type isolation uint8

const (
	// sharing lets changes go on: what the operation makes true does not touch them.
	sharing isolation = iota + 1
	// ordering lets no entry come between its start and its finish: both are placed at
	// once, as there is nothing to do between them.
	ordering
	// excluding also has everything before it applied, and lets no change in until it is
	// applied itself: it changes the versions of data.
	excluding
)

// operation is something to be made true of images or snapshots.
type operation struct {
	isolation isolation
	// held says that the caller has paused the writer and will resume it.
	held bool
	// destroys says that what the operation takes away is needed to replay what came
	// before it: that is committed first.
	destroys bool
	// intend decides what is to become true. It is called when the operation's turn has
	// come, so it sees what all operations before it did.
	intend func() (events.Event, error)
	// work is the operation's own work between its start and its finish; nil: none. Only
	// one that is sharing has any: others have their turn meanwhile.
	work func(ctx context.Context) error
}

// outcome is an operation that was done.
type outcome struct {
	intent   events.Event
	position events.Position // of the finish: the version that it gives
	at       events.Instant  // of its message
}

// operations carries operations out, one at a time but for their own work.
type operations struct {
	writer *writer
	ctx    context.Context                 //nolint:containedctx // of the life: an operation outlasts the request that asked for it
	allow  func(intent events.Event) error // what only the owner can object
	turn   chan struct{}                   // holds a token while an operation has its turn
	line   chan struct{}                   // holds a token for each that waits, has its turn or works
	due    chan struct{}                   // signalled when a checkpoint should follow
	last   atomic.Uint64                   // the position of the last finish

	running sync.WaitGroup
}

func newOperations(ctx context.Context, w *writer, allow func(events.Event) error) *operations {
	return &operations{
		writer: w, ctx: ctx, allow: allow, turn: make(chan struct{}, 1), line: make(chan struct{}, operationsWaiting),
		due: make(chan struct{}, 1),
	}
}

// run carries an operation out when its turn has come, and returns when it is safe, and
// applied unless it is only ordering. When ctx ends first the operation goes on, if it
// has begun. Errors that say why it cannot be are those of [replica.Replica.Check].
func (o *operations) run(ctx context.Context, op operation) (outcome, error) {
	var out outcome
	err := o.alone(ctx, func(context.Context) (err error) {
		out, err = o.execute(op)
		return err
	})
	if err != nil {
		return outcome{}, err
	}
	return out, nil
}

// alone calls f, with the life's context, while no other has the turn. When ctx ends
// before f does, f goes on.
func (o *operations) alone(ctx context.Context, f func(context.Context) error) error {
	leave, err := o.enter(ctx)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	o.running.Go(func() {
		defer leave()
		done <- f(o.ctx)
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if o.ctx.Err() != nil {
		return errClosed
	}
	return fault.New(fault.Timeout, "it goes on, though nobody waits for it: %w", ctx.Err())
}

// enter waits for a turn; leave gives it up.
func (o *operations) enter(ctx context.Context) (leave func(), err error) {
	select {
	case o.line <- struct{}{}:
	default:
		return nil, fault.New(fault.Busy, "%d operations on the directory wait already", operationsWaiting)
	}
	select {
	case o.turn <- struct{}{}:
		return func() { <-o.turn; <-o.line }, nil
	case <-ctx.Done():
		<-o.line
		return nil, fault.New(fault.Timeout, "another operation on the directory is under way: %w", ctx.Err())
	case <-o.ctx.Done():
		<-o.line
		return nil, errClosed
	}
}

// aside calls work, with the life's context, while others have the turn of the operation
// that calls it, and returns when it has the turn again and sees what they have done.
func (o *operations) aside(work func(context.Context) error) error {
	<-o.turn
	err := work(o.ctx)
	o.turn <- struct{}{} // whoever has it gives it up when the life ends, too
	if err != nil {
		return err
	}
	return o.settled(o.ctx)
}

// wait returns when no operation runs any more.
func (o *operations) wait() { o.running.Wait() }

// settled returns when the replica shows what every operation that was answered has made
// true.
func (o *operations) settled(ctx context.Context) error {
	return o.writer.tail.AwaitApplied(ctx, events.Position(o.last.Load()))
}

// execute carries out an operation whose turn has come.
func (o *operations) execute(op operation) (outcome, error) {
	w := o.writer
	if err := o.settled(o.ctx); err != nil {
		return outcome{}, err
	}
	if op.destroys { // outside of the pause: it takes as long as there is data to sync
		if _, err := w.tail.Commit(o.ctx); err != nil {
			return outcome{}, err
		}
	}
	if op.isolation == excluding && !op.held {
		if err := w.pause(); err != nil {
			return outcome{}, err
		}
		defer w.resume()
	}
	if op.isolation == excluding {
		if err := w.tail.Drain(o.ctx); err != nil {
			return outcome{}, err
		}
	}
	intent, err := op.intend()
	if err != nil {
		return outcome{}, err
	}
	if err := o.allow(intent); err != nil {
		return outcome{}, err
	}
	before, err := w.replica.Check(intent)
	if err != nil {
		return outcome{}, err
	}
	if op.isolation == ordering {
		return o.atOnce(intent, before)
	}
	return o.inSteps(intent, op.work)
}

// inSteps makes an operation true that may have work of its own between its start and its
// finish.
func (o *operations) inSteps(intent events.Event, work func(context.Context) error) (out outcome, err error) {
	begun, err := o.writer.logSafe(events.Entry{Event: events.OperationStarted{Intent: intent}})
	if err != nil {
		return outcome{}, err
	}
	if work != nil {
		err = o.aside(work)
	}
	if err == nil {
		out, err = o.finish(begun.position, intent)
	}
	if err == nil {
		err = o.applied(out.position)
	}
	o.concede(begun.position, err)
	return out, err
}

// atOnce makes an operation true that has no work of its own. Its start need not be safe
// before its finish has its place: the finish, which alone changes the replica, cannot be
// safe before it. So writers are not stopped.
func (o *operations) atOnce(intent events.Event, before []events.Position) (outcome, error) {
	start, finish, err := o.writer.logPair(events.Entry{Event: events.OperationStarted{Intent: intent}},
		func(started events.Position) events.Entry {
			return events.Entry{Before: before, Event: events.OperationFinished{Started: started}}
		})
	if err != nil {
		o.concede(start.position, err)
		return outcome{}, err
	}
	o.done(finish)
	return outcome{intent, finish.position, finish.at}, nil
}

// done notes where the last finish stands.
func (o *operations) done(finish loggedEntry) {
	o.last.Store(uint64(finish.position))
	signal(o.due)
}

// finish makes an operation true.
func (o *operations) finish(started events.Position, intent events.Event) (outcome, error) {
	before, err := o.writer.replica.Check(intent)
	if err != nil {
		return outcome{}, err
	}
	finish, err := o.writer.logSafe(events.Entry{Before: before, Event: events.OperationFinished{Started: started}})
	if err != nil {
		return outcome{}, err
	}
	o.done(finish)
	return outcome{intent, finish.position, finish.at}, nil
}

// applied returns when a finish is applied. If that fails nothing more is taken before
// it was replayed: it would be checked against what the operation was to change.
func (o *operations) applied(position events.Position) error {
	err := o.writer.tail.AwaitApplied(context.WithoutCancel(o.ctx), position)
	if err != nil {
		o.writer.close(err)
	}
	return err
}

// commits takes a checkpoint soon after an operation, until ctx ends: what is replayed
// after a crash is then hardly older than the last one.
func (o *operations) commits(ctx context.Context) error {
	for {
		select {
		case <-o.due:
		case <-ctx.Done():
			return nil
		}
		pause(ctx, commitAge)
		if err := o.settled(ctx); err != nil {
			return nil //nolint:nilerr // the tail reports its failure itself
		}
		if _, err := o.writer.tail.Commit(ctx); err != nil {
			return nil //nolint:nilerr // the same
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
