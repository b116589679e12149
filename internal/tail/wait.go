package tail

import (
	"context"

	"tidemark/events"
)

// WhenSafe calls done once everything logged so far is safe, or the tail has failed.
func (t *Tail) WhenSafe(done func(error)) {
	t.mu.Lock()
	if t.safeSeq >= t.lastSeq { // whatever has become of the tail
		t.mu.Unlock()
		done(nil)
		return
	}
	if t.failure == nil {
		t.waiters = append(t.waiters, waiter{t.lastSeq, done})
		t.wanted = t.lastSeq
		signal(t.syncWanted)
		t.mu.Unlock()
		return
	}
	err := t.failure
	t.mu.Unlock()
	done(err)
}

// Sync returns when everything logged so far is safe.
func (t *Tail) Sync(ctx context.Context) error {
	done := make(chan error, 1)
	t.WhenSafe(func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Drain returns when everything logged so far is safe and applied, what is held back too, but
// for a run that the log ends in: whether that is a change at all, only the next message tells.
func (t *Tail) Drain(ctx context.Context) error { return t.drain(ctx, t.holdNothing()) }

// AwaitReplayed returns when everything is applied again that may have been applied before
// the replica was opened. What is held back since then is not waited for. It is called once
// [Tail.Replay] has returned.
func (t *Tail) AwaitReplayed(ctx context.Context) error { return t.drain(ctx, t.replayedTo()) }

// drain returns when what was logged up to a sequence is applied, but for a run that the log
// ends in.
func (t *Tail) drain(ctx context.Context, seq uint64) error {
	if err := t.Sync(ctx); err != nil {
		return err
	}
	return t.wait(ctx, func() bool {
		switch {
		case t.holding.on && t.holding.next <= seq:
			return false
		case len(t.queue) == 0 || t.queue[0].seq > seq:
			return true
		}
		next, err := nextStep(t.queue)
		return err == nil && next.decided == 0
	})
}

// AwaitApplied returns when everything up to a position is applied. A position that is
// not logged yet is waited for.
func (t *Tail) AwaitApplied(ctx context.Context, position events.Position) error {
	return t.wait(ctx, func() bool {
		if t.marks.Safe.Position < position {
			t.wanted = t.lastSeq
			signal(t.syncWanted)
		}
		return t.marks.Applied.Position >= position
	})
}

// Commit takes a checkpoint of what is applied now, and returns the mark that is
// committed then. A checkpoint that is under way and holds all of that will do.
func (t *Tail) Commit(ctx context.Context) (events.Mark, error) {
	marks := t.Marks()
	if marks.Committed == marks.Applied {
		return marks.Committed, nil
	}
	// What was applied before this is in the checkpoint that the request leads to.
	t.Hurry()
	var committed events.Mark
	err := t.wait(ctx, func() bool {
		committed = t.marks.Committed
		return committed.Position >= marks.Applied.Position
	})
	return committed, err
}

// wait returns when ok, which is called under the lock, is true.
func (t *Tail) wait(ctx context.Context, ok func() bool) error {
	for {
		t.mu.Lock()
		satisfied, failure, changed := t.failure == nil && ok(), t.failure, t.change()
		t.mu.Unlock()
		switch {
		case failure != nil:
			return failure
		case satisfied:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// announce wakes all who wait for a change. It is called under the lock.
func (t *Tail) announce() {
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// fail ends the tail: every waiter, present and future, gets the error.
func (t *Tail) fail(err error) {
	if err == nil {
		err = context.Canceled
	}
	t.mu.Lock()
	if t.failure == nil {
		t.failure = err
	}
	err = t.failure
	waiters := t.waiters
	t.waiters = nil
	t.announce()
	t.mu.Unlock()
	for _, w := range waiters {
		w.done(err)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
