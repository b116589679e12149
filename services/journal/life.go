package journal

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/replica"
	"tidemark/internal/tail"
)

// life is one opening of a directory: from its last checkpoint to the end of its tag.
type life struct {
	directory  *directory
	replica    *replica.Replica
	log        *bus.Log
	tail       *tail.Tail
	writer     *writer
	operations *operations
	compaction *holder.Compaction
	conflicts  *holder.Conflicts                 // while requests are taken
	claim      atomic.Pointer[events.TagClaimed] // the latest of this life
	ended      chan struct{}                     // closed when requests are no longer taken
}

// claimed reports whether the claim of this life was applied: whoever copies from here on
// begins behind it.
func (l *life) claimed() bool {
	claim := l.claim.Load()
	return claim != nil && l.replica.Applied().Position >= claim.Mark.Position
}

// over reports whether requests are no longer taken: the state follows a little later.
func (l *life) over() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

// live is one life: open, replay, claim, serve, close. It returns when ctx ends or the
// life has failed.
func (d *directory) live(ctx context.Context, reason events.TagReason) (err error) {
	l, err := d.newLife(ctx, reason)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.replica.Close()) }()
	return l.run(ctx, reason)
}

// newLife opens the replica and the log, and lays a tail between them.
func (d *directory) newLife(ctx context.Context, reason events.TagReason) (*life, error) {
	l := &life{directory: d, ended: make(chan struct{})}
	deps := d.service.deps
	err := d.service.shared.Replace(deps.FS, d.id, d.name)
	if err != nil {
		return nil, err
	}
	if l.replica, err = d.openReplica(reason); err != nil {
		return nil, err
	}
	if l.log, err = d.openLog(ctx, l.replica); err != nil {
		return nil, errors.Join(err, l.replica.Close())
	}
	l.compaction = holder.NewCompaction(l.replica, func() bool { return true }) // it runs once all is replayed
	l.tail = tail.New(tail.Config{
		Replica:   l.replica,
		Log:       l.log,
		Logger:    d.log,
		Stage:     true,
		NoteSafe:  d.service.deps.Durability != bus.Relaxed,
		OnApplied: l.applied,

		CheckpointAge: deps.Settings.CheckpointAge, CheckpointBytes: deps.Settings.CheckpointBytes,
		OnCommit:  l.committed,
		TrimBelow: func() events.Position { return d.service.clients.Needed(d.id, d.name.Pool, "") },
	})
	return l, nil
}

// openLog opens the journal of the directory's copy, a new one if there is none.
func (d *directory) openLog(ctx context.Context, r *replica.Replica) (*bus.Log, error) {
	deps := d.service.deps
	return d.tenure.OpenJournal(ctx, r, events.Stream{
		Name:     events.JournalStream(d.name, d.id),
		Subjects: []string{events.JournalSubject(deps.Node.Site.Name, d.id) + ".>"},
		MaxBytes: deps.JournalBytesMax,
	})
}

// openReplica opens the node's copy. A directory that is new gets an empty one: if it
// should not be empty, Replay notices, because the log does not begin at the beginning.
// Only a complete copy is promoted. What a resync was preparing is void: the copy that it
// was to replace is the owner's now.
func (d *directory) openReplica(reason events.TagReason) (*replica.Replica, error) {
	dir, fsys := d.service.deps.Node.ReplicaDir(d.id), d.service.deps.FS
	r, err := replica.Open(fsys, dir)
	promoting := reason == events.TagPromoted || reason == events.TagForced
	switch {
	case errors.Is(err, replica.ErrNotFound) && promoting:
		return nil, fault.New(fault.NotReady, "there is no copy of %s here to promote", d.name)
	case errors.Is(err, replica.ErrNotFound):
		if err := replica.Drop(fsys, dir); err != nil {
			return nil, err
		}
		return replica.Create(fsys, dir, replica.Identity{Directory: d.id, Name: d.name, History: string(d.id)})
	case err != nil:
		return nil, err
	}
	begun, err := fsys.Exists(replica.Beside(dir))
	empty := promoting && begun && r.Applied() == (events.Mark{}) // the first copy is prepared beside it
	switch {
	case err != nil:
	case r.NewJournal() && !promoting:
		// An owner began its journal when it was promoted: the one that is there is another
		// node's, which owned the directory since.
		err = fault.New(fault.NotReady, "the copy of %s here has no part in its journal: another node owns the newest copy", d.name)
	case r.Syncing() || empty:
		err = fault.New(fault.NotReady, "the first sync of %s has not ended: its copy here is not complete", d.name)
	default:
		err = replica.Drop(fsys, dir)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// run runs the tail for the whole life, and the writer for the part in which requests
// are taken. The tail outlives the writer, so that what was logged is made safe and
// checkpointed before the end.
func (l *life) run(ctx context.Context, reason events.TagReason) error {
	tailCtx, stopTail := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTail()
	stopped := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tailEnded := make(chan error, 1)
	go func() {
		err := l.tail.Run(tailCtx)
		cancel(err)
		tailEnded <- err
	}()
	err := l.serve(ctx, reason)
	close(l.ended)
	if stopped.Err() != nil {
		l.directory.stopping()
	}
	if err == nil || errors.Is(err, context.Canceled) {
		err = l.finish(context.WithoutCancel(ctx))
	}
	if stopped.Err() != nil {
		l.directory.enter(Closing, nil)
	}
	stopTail()
	tailErr := <-tailEnded
	if errors.Is(tailErr, context.Canceled) {
		tailErr = nil
	}
	return errors.Join(err, tailErr)
}

// finish makes everything that was logged safe and applied.
func (l *life) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fullTime)
	defer cancel()
	return l.tail.Drain(ctx)
}

// serve carries the log into the replica, claims a tag and takes requests until ctx ends
// or a part fails. Followers are served before the tag is claimed: when the log is so
// full that it does not take even that, it is they who make room.
func (l *life) serve(ctx context.Context, reason events.TagReason) error {
	l.directory.enter(Replaying, nil)
	if err := l.replay(ctx); err != nil {
		return err
	}
	if err := l.mayClaim(reason); err != nil {
		return err
	}
	group, inner := errgroup.WithContext(ctx)
	bus, log := l.directory.service.deps.Bus, l.directory.log
	stopSource, err := api.Serve(inner, bus.Conn(), log, l.sourceHandlers(reason)...)
	if err != nil {
		return err
	}
	defer stopSource()
	group.Go(func() error { return l.tail.Heads(inner, l.sendHead) })
	group.Go(func() error { return newClientCare(l).run(inner) })
	group.Go(func() error { return (&roomWatch{life: l}).run(inner) })
	group.Go(func() error { return l.compaction.Run(inner) })
	group.Go(func() error {
		l.directory.enter(Flushing, nil)
		if err := l.claimPatiently(inner, reason); err != nil {
			return err
		}
		return l.takeRequests(inner)
	})
	return group.Wait()
}

// takeRequests settles what an earlier life left unfinished, and then takes requests until
// ctx ends. Everything that was taken is logged when it returns nil.
func (l *life) takeRequests(ctx context.Context) (err error) {
	l.conflicts = holder.OpenConflicts(l.directory.service.deps.FS, l.directory.service.deps.Node.ReplicaDir(l.directory.id), l.directory.log)
	defer func() { err = errors.Join(err, l.conflicts.Close()) }()
	group, inner := errgroup.WithContext(ctx)
	l.operations = newOperations(inner, l.writer, l.unused)
	defer l.operations.wait()
	group.Go(func() error { return l.writer.run(inner) })
	group.Go(func() error { return l.operations.commits(inner) })
	group.Go(func() error {
		if err := l.operations.recover(inner); err != nil {
			return err
		}
		stop, err := api.Serve(inner, l.directory.service.deps.Bus.Conn(), l.directory.log, l.handlers()...)
		if err != nil {
			return err
		}
		defer stop()
		l.directory.becameReady(l)
		<-inner.Done()
		return nil
	})
	return group.Wait()
}

// replay carries the log into the replica.
func (l *life) replay(ctx context.Context) error {
	if err := l.tail.Replay(ctx); err != nil {
		return err
	}
	return l.tail.Drain(ctx)
}

// applied is told by the tail; what is replayed before the writer exists is not its.
func (l *life) applied(m events.JournalMessage) {
	if b, ok := m.(*events.Batch); ok && l.writer != nil {
		l.writer.applied(b)
	}
}

// committed announces the replica's commit position.
func (l *life) committed(ctx context.Context, mark events.Mark) error {
	return l.directory.tenure.Announce(ctx, l.ownPosition(mark))
}

func (l *life) ownPosition(mark events.Mark) events.PositionCommitted {
	s := l.directory.service
	return events.PositionCommitted{
		Directory: l.directory.id, Client: s.clients.Self(), Site: s.deps.Node.Site.UUID, Role: events.Master,
		State: events.ClientConnected, Mark: mark, At: events.InstantOf(time.Now()),
	}
}

// consumers returns who consumes the journal, this copy first: it is one from the
// beginning, before it has announced anything.
func (l *life) consumers() []events.PositionCommitted {
	all := []events.PositionCommitted{l.ownPosition(l.tail.Marks().Committed)}
	for _, f := range l.directory.service.clients.Of(l.directory.id) {
		if f.Client != all[0].Client {
			all = append(all, f)
		}
	}
	return all
}

// sendHead tells followers how far the journal is logged and safe.
func (l *life) sendHead(marks tail.Marks) {
	s := l.directory.service
	err := s.deps.Bus.Send(&events.HeadAdvanced{
		Directory: l.directory.id, Logged: marks.Logged, Safe: marks.Safe, At: events.InstantOf(time.Now()),
		Disconnected: s.clients.Disconnected(l.directory.id),
	})
	if err != nil {
		l.directory.log.Debug("head not sent", "error", err)
	}
}
