package replayer

import (
	"context"
	"errors"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/replica"
)

// errNoCopyYet says that this node has no copy, and that the site's journal is of another
// node's: that copy is the only complete one of the site, and goes on from this journal, until
// there is one here.
var errNoCopyYet = errors.New("there is no copy here yet")

// openJournal opens this site's journal of the directory. A copy that is empty, because the
// one that was here is gone, has no use for a journal that begins behind the beginning: it is
// replaced by an empty one, and the copy is filled by a first sync. Where another node has a
// copy, its journal is left alone: errNoCopyYet.
func (f *follower) openJournal(ctx context.Context, r *replica.Replica) (*bus.Log, error) {
	deps := f.service.deps
	stream := events.Stream{
		Name:     events.JournalStream(f.name, f.id),
		Subjects: []string{events.JournalSubject(deps.Node.Site.Name, f.id) + ".>"},
		MaxBytes: deps.JournalBytesMax,
	}
	log, err := f.tenure.OpenJournal(ctx, r, stream)
	if err != nil || r.Syncing() || r.Applied() != (events.Mark{}) {
		return log, err
	}
	if begins, err := atBeginning(ctx, log); begins || err != nil {
		return log, err
	}
	if f.asked.elsewhere {
		return nil, errNoCopyYet
	}
	f.log.Warn("the copy that was here is gone; its journal is of no use and is dropped")
	return f.tenure.ReplaceJournal(ctx, stream)
}

// atBeginning reports whether a log is empty, or begins with the claim that begins a history.
func atBeginning(ctx context.Context, log *bus.Log) (bool, error) {
	state, err := log.State(ctx)
	if err != nil || state.Last < state.First {
		return err == nil, err
	}
	m, err := log.Get(ctx, state.First)
	if err != nil {
		return false, err
	}
	message, err := events.DecodeJournal(m.Data)
	if err != nil {
		return false, err
	}
	position, _ := message.Continues()
	return position == 0, nil
}
