package replayer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/tail"
)

// fullWait is how long a full journal at this site is waited for before it is tried
// again: a checkpoint may trim it meanwhile.
const fullWait = 500 * time.Millisecond

// receive takes one message of the source, if it continues what was received before.
func (f *follower) receive(ctx context.Context, own *ownCopy, m bus.Message) error {
	message, err := events.DecodeJournal(m.Data)
	if err != nil {
		return fmt.Errorf("message %d: %w", m.Sequence, err)
	}
	last := own.inbox.last()
	switch {
	case message.Follows(last):
	case last.Same(own.tail.Marks().Logged):
		return fmt.Errorf("message %d does not continue %v: %w", m.Sequence, last.Position, tail.ErrDiverged)
	default: // what was received and not kept may be lost at the source
		return errLookAgain
	}
	if claim, ok := message.(*events.TagClaimed); ok && claim.Reason == events.TagLost {
		return fmt.Errorf("the owner has given up what its journal had lost, and its images may hold parts of that: %w", errDisconnected)
	}
	f.taking.Store(true)
	defer f.taking.Store(false)
	if err := f.rate.take(ctx, len(m.Data)); err != nil {
		return err
	}
	return own.inbox.put(ctx, received{message, m.Data, m.Sequence})
}

// keepSafe keeps what the source has reported safe, until the source is no primary any
// more.
func (f *follower) keepSafe(ctx context.Context, own *ownCopy, src *source) error {
	made, _ := src.journal.Opened()
	for {
		r, err := own.inbox.first(ctx)
		if err != nil {
			return err
		}
		if err := f.keep(ctx, own, r); err != nil {
			return err
		}
		f.kept = place{src.peer.Peer, src.begin.Stream, r.sequence, r.message.Ends(), made}
		own.inbox.drop()
		claim, isClaim := r.message.(*events.TagClaimed)
		if isClaim && claim.Reason == events.TagDemoted && f.followsPrimary() {
			return errLookAgain
		}
	}
}

// keepReceived keeps also what the source has not reported safe.
func (f *follower) keepReceived(ctx context.Context, own *ownCopy) error {
	for {
		r, ok := own.inbox.oldest()
		if !ok {
			return nil
		}
		if err := f.keep(ctx, own, r); err != nil {
			return err
		}
		own.inbox.drop()
	}
}

// keep stores a message in this site's journal. This is the commit point of following:
// from here on the message survives the death of this process. A copy that borrows its
// journal has it there already.
func (f *follower) keep(ctx context.Context, own *ownCopy, r received) error {
	if err := own.tail.Room(ctx, len(r.data)); err != nil {
		return err
	}
	defer own.tail.Return(len(r.data))
	seq := r.sequence
	if !own.borrowed {
		var err error
		if seq, err = f.append(ctx, own, r.message, r.data); err != nil {
			return err
		}
	}
	own.tail.Logged(r.message, seq, len(r.data))
	return nil
}

func (f *follower) followsPrimary() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.source != nil && f.source.owns()
}

func (f *follower) append(ctx context.Context, own *ownCopy, message events.JournalMessage, data []byte) (uint64, error) {
	site := f.service.deps.Node.Site.Name
	subject := events.EntriesSubject(site, f.id)
	if _, isTag := message.(*events.TagClaimed); isTag {
		subject = events.TagSubject(site, f.id)
	}
	for {
		var seq uint64
		err := own.journal.Room()
		if err == nil {
			seq, err = own.journal.Append(ctx, subject, data, own.tail.LastSequence())
		}
		if !errors.Is(err, bus.ErrFull) || ctx.Err() != nil {
			return seq, err
		}
		f.log.Warn("this site's journal is full; following waits", "error", err)
		pause(ctx, fullWait)
	}
}
