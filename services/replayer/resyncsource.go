package replayer

import (
	"context"
	"fmt"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/lineage"
	"tidemark/internal/replica"
)

// findGood connects to the directory's primary, and registers with how far the new copy
// has come. From anybody else nothing is taken, it may be as wrong as this site: but from one
// who goes on with this copy's own history. At the end of a chain there is nobody else.
func (f *follower) findGood(ctx context.Context, old *donor, fresh *replica.Replica) (*source, error) {
	src, err := f.look(ctx, nil)
	if err == nil && !src.primary && !old.outdated && !f.isContinued(ctx, old, src) {
		src.close()
		err = fault.New(fault.NotReady, "no site that can be reached is primary of %s", f.name)
	}
	if err != nil {
		return nil, fmt.Errorf("the resync waits for a primary: %w", err)
	}
	f.service.departures.stop(f.id, src.peer.Peer)
	committed, _ := fresh.Committed()
	return src.unless(f.register(ctx, src, committed, unsynced(fresh)))
}

// isContinued reports whether a site that hears the primary has all of a copy's history, and
// more. A demotion is no more: who was primary may be followed by those who hold the same.
func (f *follower) isContinued(ctx context.Context, old *donor, src *source) bool {
	if !src.hears || !old.whole {
		return false
	}
	at := holder.Holding{
		Conn: src.talk.Conn(), Directory: src.directory, Peer: src.peer, Self: f.service.deps.Node.Site.UUID,
	}
	asking, cancel := src.during(ctx, askTime)
	defer cancel()
	ours := holder.HistoryOf(old.replica)
	theirs, err := at.History(asking, ours)
	if err != nil || len(theirs.Tags) == 0 || theirs.Tags[len(theirs.Tags)-1].Reason == events.TagDemoted {
		return false
	}
	return lineage.Compare(ours, theirs).Kind == lineage.Behind
}

// goesOn demands, of a new copy that was left while it followed, that its source has all that
// its files may hold parts of. There is no journal here that has it: whoever owned the
// directory then does, and nobody else who may have been promoted since.
func (f *follower) goesOn(ctx context.Context, fresh *replica.Replica, src *source) error {
	at := holder.Holding{
		Conn: src.talk.Conn(), Directory: src.directory, Peer: src.peer, Self: f.service.deps.Node.Site.UUID,
	}
	asking, cancel := src.during(ctx, askTime)
	defer cancel()
	theirs, err := at.History(asking, holder.HistoryOf(fresh))
	if err != nil {
		return err
	}
	if !continues(fresh.Tag(), theirs.Tags) {
		return fmt.Errorf("%s has another owner than when its copy was left: %w", f.name, errStartOver)
	}
	return nil
}
