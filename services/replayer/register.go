package replayer

import (
	"context"
	"errors"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/holder"
)

// join makes this site known to a source. One whose history has parted from this copy's is
// not told that it is followed: it would keep its journal for nothing.
func (f *follower) join(ctx context.Context, own *ownCopy, src *source) error {
	f.service.departures.stop(f.id, src.peer.Peer)
	if src.begun {
		return src.openJournal(ctx)
	}
	err := f.compare(ctx, own, src)
	behind := errors.Is(err, errAhead)
	switch {
	case behind && !f.goesFurther(ctx, own, src):
		err = awaitSource(ctx, err)
	case err == nil, behind:
		err = f.register(ctx, src, own.tail.Marks().Committed, own.unsynced())
		if errors.Is(err, errDisconnected) && !own.unsynced() {
			err = f.registerAnew(ctx, own, src)
		}
	}
	if previous := f.lastSource(); err == nil && previous != nil && previous.peer.Peer != src.peer.Peer {
		f.moveOn(previous)
	}
	return err
}

// register makes this site known to the source, which then trims nothing that it needs.
func (f *follower) register(ctx context.Context, src *source, committed events.Mark, copying bool) (err error) {
	ctx, cancel := src.during(ctx, askTime)
	defer cancel()
	src.begin, err = askSource[holder.SyncBeginReply](ctx, src, api.SyncBegin,
		api.SyncBeginRequest{Client: f.service.clients.Self(), Site: f.service.deps.Node.Site.UUID, Mark: committed, Copying: copying})
	if err != nil {
		return err
	}
	if src.begin.Disconnected {
		return errDisconnected
	}
	return src.openJournal(ctx)
}

// openJournal opens the journal that a source has named.
func (s *source) openJournal(ctx context.Context) (err error) {
	if s.journal == nil || s.journal.Name() != s.begin.Stream {
		ctx, cancel := s.during(ctx, askTime)
		defer cancel()
		s.journal, err = s.bulk.ExistingLog(ctx, s.begin.Stream)
	}
	return err
}

// resumed is what a source has answered that is registered with again.
type resumed struct {
	directory events.DirectoryID // there
	begin     holder.SyncBeginReply
}

// resume registers with the source that was followed last, as long as its history leads through the
// end of this copy's, which it is left to judge: so the questions of how it stands and whether
// it may be followed take one round trip together. nil: they have to be asked one by one.
func (f *follower) resume(ctx context.Context, own *ownCopy, src *source) *resumed {
	last := f.lastSource()
	if own == nil || own.unsynced() || last == nil || last.peer.Peer != src.peer.Peer {
		return nil
	}
	tip := holder.TipOf(own.replica)
	if tip == nil {
		return nil
	}
	f.service.departures.stop(f.id, src.peer.Peer)
	at := &source{talk: src.talk, directory: last.directory}
	begin, err := askSource[holder.SyncBeginReply](ctx, at, api.SyncBegin, api.SyncBeginRequest{
		Client: f.service.clients.Self(), Site: f.service.deps.Node.Site.UUID, Mark: own.tail.Marks().Committed, Tip: tip,
	})
	if err != nil || !begin.Linked || begin.Disconnected {
		return nil
	}
	return &resumed{last.directory, begin}
}

// registerAnew asks a source again that does not have what this copy needs after its last
// checkpoint: after another one it may need less. A journal that begins at its site's own
// first sync can lack what the owner's never did, so only the owner's refusal is final.
func (f *follower) registerAnew(ctx context.Context, own *ownCopy, src *source) error {
	before := own.tail.Marks().Committed
	if _, err := own.tail.Commit(ctx); err != nil {
		return err
	}
	err := errDisconnected
	if after := own.tail.Marks().Committed; after != before {
		err = f.register(ctx, src, after, false)
	}
	if errors.Is(err, errDisconnected) && !src.primary {
		return errJournalTooShort
	}
	return err
}

// errJournalTooShort says that a site which follows itself cannot be followed from here.
var errJournalTooShort = errors.New("its journal begins behind what this copy needs, and it is not the primary")
