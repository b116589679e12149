package replayer

import (
	"context"
	"errors"
	"fmt"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/holder"
	"tidemark/internal/lineage"
	"tidemark/internal/tail"
)

// errRewound says that the copy has given up claims that nobody needs, and is to be opened
// again with an empty journal.
var errRewound = errors.New("the copy was rewound")

// errOtherLife says that a source has another directory of the same name.
var errOtherLife = errors.New("the source has another directory of this name: the one that this copy is of was removed there")

// claimsError says that a copy can follow a source only if it gives up the claims behind a
// mark, which no entry follows.
type claimsError struct{ behind events.Mark }

// Error implements error.
func (e *claimsError) Error() string {
	return fmt.Sprintf("tags that this copy has behind %v, and that no entry follows, are not of its history", e.behind.Position)
}

// splitError is a history that has parted from its source's, and how.
type splitError struct{ split *api.Split }

// Error implements error.
func (e *splitError) Error() string { return holder.Summary(e.split) }

// Is matches [tail.ErrDiverged].
func (e *splitError) Is(target error) bool { return target == tail.ErrDiverged }

// compare asks a source for its history before it is followed, and says what stands against
// that: a [*splitError], a [*claimsError], [tail.ErrTrimmed] or errOtherLife. A history that is not known to have parted is for the journal to check,
// message by message.
func (f *follower) compare(ctx context.Context, own *ownCopy, src *source) error {
	if own.unsynced() {
		return nil
	}
	at := holder.Holding{
		Conn: src.talk.Conn(), Directory: src.directory, Peer: src.peer, Self: f.service.deps.Node.Site.UUID,
	}
	asking, cancel := src.during(ctx, askTime)
	defer cancel()
	ours := holder.HistoryOf(own.replica)
	theirs, err := at.History(asking, ours)
	switch {
	case api.Nobody(err): // an older program, or nobody holds it there: registering will tell
		return nil
	case err != nil:
		return err
	}
	relation := lineage.Compare(ours, theirs)
	switch lineage.Decide(ours, theirs, relation, src.authority()) {
	case lineage.GiveUp:
		claims := &claimsError{relation.Common}
		if relation.Kind == lineage.Ahead {
			return fmt.Errorf("%w: %w", errAhead, claims)
		}
		return claims
	case lineage.Parted:
		parting := holder.Parting{
			Self: f.service.deps.Node.Site, Name: f.name, Replica: own.replica, Journal: own.journal,
			Ours: ours, Theirs: theirs, TheirsPrimary: src.primary, Relation: relation,
		}
		return &splitError{parting.Describe(asking, at)}
	case lineage.Forgotten:
		if !src.primary { // only the owner's word is final
			return errJournalTooShort
		}
		return fmt.Errorf("site %s keeps too little of its history to tell whether this copy, at %v, is of it: %w",
			src.peer.Site, ours.End.Position, tail.ErrTrimmed)
	case lineage.Foreign:
		return fmt.Errorf("site %s: %w", src.peer.Site, errOtherLife)
	case lineage.Await:
		if relation.Kind == lineage.Ahead {
			return errAhead
		}
		pause(ctx, behindWait)
		return errLookAgain
	case lineage.Follow:
	}
	return nil
}

// errAhead says that a source has applied less of this copy's history than this copy.
var errAhead = errors.New("the source has to catch up")

// awaitSource says what becomes of a source that has applied less than this copy (why), and whose
// journal goes no further. It is not told that it is followed: it has to catch up, and is given a
// moment, or it never gets the claims that this copy has (a [*claimsError]).
func awaitSource(ctx context.Context, why error) error {
	if claims := (*claimsError)(nil); errors.As(why, &claims) {
		return claims
	}
	pause(ctx, behindWait)
	return errLookAgain
}

// goesFurther reports whether a source's journal has all that this copy's has, also what the
// source holds back.
func (f *follower) goesFurther(ctx context.Context, own *ownCopy, src *source) bool {
	asking, cancel := src.during(ctx, askTime)
	defer cancel()
	journal, err := src.bulk.ExistingLog(asking, events.JournalStream(f.name, src.directory))
	if err != nil {
		return false
	}
	last, err := tail.Ending(asking, journal, own.tail.Marks().Logged)
	return err == nil && last != nil
}

// rewind gives up the claims of this site behind a common mark: no entry followed them, so
// nothing is lost. A mark inside of a change that spans messages is none to rewind to,
// because what was claimed has made that change void.
func (f *follower) rewind(ctx context.Context, own *ownCopy, to events.Mark) error {
	if err := own.tail.Drain(ctx); err != nil {
		return err
	}
	if marks := own.tail.Marks(); !marks.Applied.Same(marks.Logged) {
		return fmt.Errorf("a change is incomplete at %v: %w", marks.Logged.Position, tail.ErrDiverged)
	}
	last, err := tail.Ending(ctx, own.journal, to)
	if err != nil {
		return fmt.Errorf("look at %v before rewinding: %w", to.Position, err)
	}
	if batch, ok := last.(*events.Batch); ok && batch.Open() {
		return fmt.Errorf("a change was interrupted at %v: %w", to.Position, tail.ErrDiverged)
	}
	if last != nil {
		to = last.Ends() // with its time
	}
	if _, err := own.tail.Commit(ctx); err != nil {
		return err
	}
	if err := own.replica.Rewind(to); err != nil {
		return err
	}
	f.log.Info("claims without entries are given up, to follow the primary", "position", to.Position.String())
	return errRewound
}

// ahead is how far the source was ahead of what this copy has received, as it was last
// heard: what a forced promotion would lose. It is called under the lock.
func (f *follower) ahead(received events.Mark) api.Ahead {
	a := api.Ahead{}
	switch {
	case f.split != nil:
		a.Entries, a.Bytes, a.Known = f.split.Theirs.Entries, f.split.Theirs.Bytes, true
		a.Site, a.Heard = f.split.Peer, events.InstantOf(f.splitAt)
	case f.head != nil:
		head := f.head.Logged
		a.Site, a.Heard, a.Known = f.headOf, events.InstantOf(f.headAt), true
		if head.Position > received.Position {
			a.Entries = head.Entries - min(received.Entries, head.Entries)
			a.Bytes = head.Bytes - min(received.Bytes, head.Bytes)
			a.Seconds = max(0, head.Time.Sub(received.Time).Seconds())
		}
	}
	return a
}
