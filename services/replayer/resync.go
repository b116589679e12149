package replayer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/lineage"
	"tidemark/internal/replica"
	"tidemark/internal/tail"
)

// request is what an operator asked for: that this site gives up what only it has. They are
// numbered; one that is not above the number that the copy knows was carried out.
type request struct {
	number uint64
	keep   bool // what is given up, as conflict images
	// elsewhere: another node has held the directory too, so that a copy which does not fit the
	// journal is an old one.
	elsewhere bool
}

// errReplaced ends a life whose copy is to be replaced by the one beside it.
var errReplaced = errors.New("another copy takes the place of this one")

// errLevel ends a following that has come as far as it is to go.
var errLevel = errors.New("the copy is level with its source")

// resyncDue reports whether a resync was asked for that this copy has not seen. One that is
// empty, or whose first sync has not ended, has nothing to give up: see resyncEmpty.
func (f *follower) resyncDue(r *replica.Replica) bool { return f.asked.number > r.Resynced() }

// resyncHealthy is a resync whose old copy is in order. It stays open and is served while
// the new one is prepared; nothing is applied to it any more.
func (f *follower) resyncHealthy(ctx context.Context, own *ownCopy) error {
	f.enter(Resyncing, nil)
	if err := own.tail.Drain(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	// What is given up, and perhaps kept, is what the files hold from here on. A copy that
	// was kept behind is not any more.
	if _, err := own.tail.Commit(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	defer own.replica.HoldCompaction()()
	return f.resync(ctx, &donor{replica: own.replica, whole: own.replica.Consistent()})
}

// resyncEmpty carries out a resync of a copy that has no content yet, whose first sync is what
// a resync would be. One that has begun goes on with what is there, and counts as asked for
// as soon as it does (see fill); if the source waits for it no more, it starts over.
func (f *follower) resyncEmpty(_ context.Context, own *ownCopy) error {
	switch {
	case !own.replica.Syncing():
		return own.replica.SetResynced(f.asked.number)
	case f.remainsDisconnected(own):
		return fmt.Errorf("a resync was asked for: %w", errStartOver)
	}
	return nil
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the end of ctx is how it ends
	}
	return err
}

// resync prepares a new copy from the directory's primary beside the old one until it can
// take the place of that: errReplaced. It goes on until ctx ends.
func (f *follower) resync(ctx context.Context, old *donor) error {
	f.enter(Resyncing, nil)
	f.note(events.ResyncStarted, fmt.Sprintf("request %d", f.asked.number))
	wait := retryFirst
	for ctx.Err() == nil {
		err := f.resyncOnce(ctx, old)
		f.setSource(nil)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end of ctx is how it ends
		case errors.Is(err, errReplaced), f.tenure.Over():
			return err
		case f.useless(err):
			f.log.Warn("the resync starts over", "error", err)
			if dropErr := replica.Drop(f.service.deps.FS, f.folder()); dropErr != nil {
				err = errors.Join(err, dropErr)
			}
		default:
			f.log.Warn("the resync waits", "error", err)
		}
		f.enter(Resyncing, err)
		pause(ctx, wait)
		wait = min(2*wait, retryLast)
	}
	return nil
}

// useless reports whether an error means that what was prepared is of no history that could
// be gone on with.
func (f *follower) useless(err error) bool {
	var diverged *replica.DivergedError
	var mismatch *replica.MismatchError
	return errors.Is(err, errStartOver) || errors.Is(err, replica.ErrAstray) || errors.Is(err, errDisconnected) || errors.Is(err, tail.ErrTrimmed) ||
		errors.Is(err, tail.ErrDiverged) || errors.As(err, &diverged) || errors.As(err, &mismatch)
}

// resyncOnce goes on with the new copy from one source, as far as that leads.
func (f *follower) resyncOnce(ctx context.Context, old *donor) (err error) {
	fresh, err := f.openBeside()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fresh.Close()) }()
	src, err := f.findGood(ctx, old, fresh)
	if err != nil {
		return err
	}
	defer src.close()
	f.setSource(src)
	f.enter(Resyncing, nil)
	next := &ownCopy{replica: fresh, journal: src.journal, borrowed: true}
	next.tail = tail.New(tail.Config{
		Replica: fresh, Log: src.journal, Logger: f.log,
		OnCommit: func(ctx context.Context, mark events.Mark) error {
			if err := f.tenure.Check(ctx); err != nil {
				return err
			}
			if err := src.report(ctx, f.position(mark)); err != nil { // it learns the next one
				f.log.Debug("commit position of the new copy not published", "error", err)
			}
			return nil
		},
	})
	if mark, sequence := fresh.Committed(); sequence > 0 {
		f.kept = place{peer: src.peer.Peer, stream: src.begin.Stream, sequence: sequence, ends: mark}
	}
	run := &copying{follower: f, replica: fresh, source: src, donor: old}
	err = withTail(ctx, next.tail, func(ctx context.Context) error {
		return f.attend(ctx, next, src, func(ctx context.Context) error { return f.prepare(ctx, next, run) })
	})
	if !errors.Is(err, errLevel) {
		return err
	}
	if err := f.tenure.Check(ctx); err != nil { // another may hold the directory by now
		return err
	}
	return f.takePlace(old, fresh, run)
}

// openBeside opens the copy that is prepared, an empty one if there is none.
func (f *follower) openBeside() (*replica.Replica, error) {
	fsys, dir := f.service.deps.FS, replica.Beside(f.folder())
	r, err := replica.Open(fsys, dir)
	switch {
	case errors.Is(err, replica.ErrNotFound):
		return replica.Create(fsys, dir, replica.Identity{Directory: f.id, Name: f.name})
	case fault.CodeOf(err) == fault.Corrupt:
		return nil, fmt.Errorf("%w: %w", err, errStartOver)
	}
	return r, err
}

// prepare fills the new copy and has it follow the source's journal, without one of its own:
// after a crash it replays from there, where it is waited for. It returns errLevel when the
// copy is what the source was a moment ago.
func (f *follower) prepare(ctx context.Context, next *ownCopy, run *copying) error {
	if next.unsynced() {
		if err := f.fill(ctx, next, run); err != nil {
			return fmt.Errorf("resync from site %s: %w", run.source.peer.Site, err)
		}
	} else if err := f.goesOn(ctx, next.replica, run.source); err != nil {
		return err
	}
	from, err := f.whereIn(ctx, run.source, next.tail.Marks().Logged)
	if err != nil {
		return fmt.Errorf("journal at site %s: %w", run.source.peer.Site, err)
	}
	started := time.Now()
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return f.carry(inner, next, run.source, from) })
	group.Go(func() error { return f.awaitLevel(inner, next, started) })
	return group.Wait()
}

// levelBytes is how far behind its source a copy may be that takes another's place, and
// levelWait how often that is looked at. A source that is always further ahead is not waited
// for longer than levelPatience: the copy is consistent, and goes on in its new place.
const (
	levelBytes    = 4 << 20
	levelWait     = 50 * time.Millisecond
	levelPatience = 10 * time.Second
)

// awaitLevel returns errLevel once the copy may take another's place. It must have come as
// far as the source was safe when it was first heard from a moment on: what a crash had half
// applied is applied whole by then.
func (f *follower) awaitLevel(ctx context.Context, next *ownCopy, since time.Time) error {
	tick := time.NewTicker(levelWait)
	defer tick.Stop()
	reach := events.Position(0)
	for {
		changed := next.tail.Changed()
		if head := f.headSince(since); head != nil {
			if reach == 0 {
				reach = head.Safe.Position
			}
			applied := next.tail.Marks().Applied
			near := applied.Bytes+levelBytes >= head.Logged.Bytes || time.Since(since) > levelPatience
			if next.replica.Consistent() && applied.Position >= reach && near {
				return errLevel
			}
		}
		select {
		case <-changed:
		case <-tick.C: // a head is no change of the tail
		case <-ctx.Done():
			return nil
		}
	}
}

// takePlace decides that the new copy takes the old one's place: from here on a crash does
// not stop it. The rest is done when the copy is opened anew.
func (f *follower) takePlace(old *donor, fresh *replica.Replica, run *copying) error {
	keep, err := f.keepRefused(old, fresh)
	if err != nil {
		return fmt.Errorf("keep what is given up: %w", err)
	}
	if err := fresh.TakePlace(f.asked.number, keep); err != nil {
		return err
	}
	f.setProgress(nil)
	detail := fmt.Sprintf("request %d: %d bytes travelled", f.asked.number, run.source.travelled())
	if keep != "" {
		detail += "; what is given up is kept in images named NAME.conflict-" + keep
	}
	f.note(events.ResyncEnded, detail)
	return errReplaced
}

// outdated reports whether a copy failed because another node went on with the site's
// journal, or began one anew; or because there is none here yet. Nothing is lost by that.
func (f *follower) outdated(cause error) bool {
	return f.asked.elsewhere && !f.everOpened() && (broken(cause) || errors.Is(cause, bus.ErrGap) || errors.Is(cause, errNoCopyYet))
}

// resyncBroken is a resync whose old copy failed, and cannot be served: the new one is
// prepared all the same. It returns false if none was asked for, unless the copy is outdated.
func (f *follower) resyncBroken(ctx context.Context, cause error) bool {
	outdated := f.outdated(cause)
	if !broken(cause) && !outdated {
		return false
	}
	old, err := replica.Open(f.service.deps.FS, f.folder())
	if err != nil {
		return fault.CodeOf(err) == fault.Corrupt && f.resyncUnreadable(ctx, cause)
	}
	defer func() { _ = old.Close() }() // it was only read
	if !f.resyncDue(old) && !outdated {
		return false
	}
	return f.resyncFailed(ctx, cause, &donor{replica: old, outdated: outdated})
}

// resyncUnreadable is a resync whose old copy cannot even be opened. What requests it has
// carried out nobody knows, so only one counts that is asked for after that was noticed.
func (f *follower) resyncUnreadable(ctx context.Context, cause error) bool {
	seen, err := replica.NoteDamage(f.service.deps.FS, f.folder(), f.asked.number)
	if err != nil {
		f.log.Error("a resync cannot be asked for", "error", err)
		return false
	}
	return f.asked.number > seen && f.resyncFailed(ctx, cause, &donor{})
}

// resyncFailed prepares a new copy beside one that failed.
func (f *follower) resyncFailed(ctx context.Context, cause error, old *donor) bool {
	if f.asked.keep && !old.outdated {
		f.enter(Errored, errors.Join(cause, errNotKept))
		return false
	}
	f.enter(Stopped, cause)
	f.becameOpen()
	return errors.Is(f.resync(ctx, old), errReplaced)
}

// remedied says with an error of a copy what mends it, where that is known.
func (f *follower) remedied(err error) error {
	if !broken(err) || errors.Is(err, tail.ErrLostTail) || errors.Is(err, tail.ErrDiverged) || errors.Is(err, bus.ErrRolledBack) {
		return err // what there is to choose from is said where it was found
	}
	return fmt.Errorf("%w; `tidemark mirror resync %s` makes this copy anew", err, f.name)
}

// broken reports whether a copy failed in a way that opening it again does not help.
func broken(err error) bool {
	var diverged *replica.DivergedError
	var mismatch *replica.MismatchError
	return errors.Is(err, tail.ErrLostTail) || errors.Is(err, tail.ErrDiverged) || errors.Is(err, bus.ErrRolledBack) ||
		errors.As(err, &diverged) || errors.As(err, &mismatch) || fault.CodeOf(err) == fault.Corrupt
}

// errNotKept says why a resync does not begin.
var errNotKept = errors.New("the copy here failed and cannot be kept as conflict images; ask for a resync without --keep-refused")

// keepRefused notes what the old copy has that the new one has not, and returns under which
// name it is kept; empty if it is not to be, or there is nothing. A copy that never was
// complete has nothing that anybody could have seen.
func (f *follower) keepRefused(old *donor, fresh *replica.Replica) (name string, err error) {
	if !f.asked.keep || !old.exact() {
		return "", nil
	}
	ours := holder.HistoryOf(old.replica)
	relation := lineage.Compare(ours, holder.HistoryOf(fresh))
	if relation.Kind == lineage.Same || relation.Kind == lineage.Behind {
		return "", nil
	}
	images := old.replica.ImagesChangedSince(relation.Common.Position)
	if len(images) == 0 {
		return "", nil
	}
	name = ours.End.Position.String()
	// Positions are unique: what is kept under this name ended there too, and is the same.
	there, err := f.service.deps.FS.Exists(replica.Refused(f.folder(), name))
	if err != nil || there {
		return "", err
	}
	return name, holder.NoteRefused(f.service.deps.FS, f.folder(), ours.End.Position, images)
}
