package replayer

import (
	"context"
	"errors"
	"sync/atomic"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/holder"
	"tidemark/internal/replica"
	"tidemark/internal/tail"
)

// ownCopy is this node's copy while it is open: from its last checkpoint to the end of
// what was received.
type ownCopy struct {
	replica    *replica.Replica
	journal    *bus.Log
	tail       *tail.Tail
	inbox      inbox
	compaction *holder.Compaction
	conflicts  *holder.Conflicts
	// borrowed: the journal is the source's, which holds for this copy what it may have to
	// replay. Nothing is stored here.
	borrowed bool
	ended    chan struct{} // closed when the copy is about to be closed
	// replayed is set when all is applied again that the copy may have applied before a
	// crash, and that its files may hold parts of.
	replayed atomic.Bool
}

// replay waits until everything is applied again that may have been applied before the copy
// was opened.
func (o *ownCopy) replay(ctx context.Context) error {
	err := o.tail.AwaitReplayed(ctx)
	if err == nil {
		o.replayed.Store(true)
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the end of ctx is how it ends
	}
	return err
}

// complete reports whether the copy is a disk that once was: its first sync has ended,
// and what a crash may have left half-applied beyond the checkpoint was applied again.
func (o *ownCopy) complete() bool { return o.replica.Consistent() && o.replayed.Load() }

// open opens this node's copy, an empty one if there is none, and its journal.
func (f *follower) open(ctx context.Context) (*ownCopy, error) {
	deps := f.service.deps
	if err := f.tenure.Check(ctx); err != nil {
		return nil, err
	}
	if err := f.service.shared.Replace(deps.FS, f.id, f.name); err != nil {
		return nil, err
	}
	r, err := f.openReplica()
	if err != nil {
		return nil, err
	}
	f.recallHead(ctx)
	journal, err := f.openJournal(ctx, r)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	own := &ownCopy{replica: r, journal: journal, ended: make(chan struct{})}
	own.conflicts = holder.OpenConflicts(deps.FS, f.folder(), f.log)
	own.compaction = holder.NewCompaction(r, own.complete)
	own.tail = tail.New(tail.Config{
		Replica:   r,
		Log:       journal,
		Logger:    f.log,
		NoteSafe:  deps.Durability != bus.Relaxed,
		Gathered:  true,
		Delay:     f.delay,
		OnCommit:  f.committed,
		TrimBelow: func() events.Position { return f.service.clients.Needed(f.id, f.name.Pool, f.service.primaryOf(f.id)) },
	})
	return own, nil
}

// openReplica opens this node's copy. An empty one has nothing to give up.
func (f *follower) openReplica() (*replica.Replica, error) {
	fsys, dir := f.service.deps.FS, f.folder()
	r, err := replica.Open(fsys, dir)
	if errors.Is(err, replica.ErrNotFound) {
		r, err = replica.Create(fsys, dir, replica.Identity{Directory: f.id, Name: f.name})
		if err == nil {
			err = r.SetResynced(f.asked.number)
		}
	}
	if err != nil && r != nil {
		err = errors.Join(err, r.Close())
	}
	return r, err
}

// withTail runs a copy's tail while f does, and a little longer: what is applied is
// checkpointed when it returns.
func withTail(ctx context.Context, t *tail.Tail, f func(context.Context) error) error {
	tailCtx, stopTail := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTail()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tailEnded := make(chan error, 1)
	go func() {
		err := t.Run(tailCtx)
		cancel(err)
		tailEnded <- err
	}()
	err := f(ctx)
	stopTail()
	if tailErr := <-tailEnded; !errors.Is(tailErr, context.Canceled) {
		err = errors.Join(err, tailErr)
	}
	return err
}
