package replayer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/tail"
)

// fullWait is how long a full journal at this site is waited for before it is tried
// again: a checkpoint may trim it meanwhile.
const fullWait = 500 * time.Millisecond

// primaryWait is how long a source is followed that is no primary before the peers are
// asked again.
const primaryWait = 5 * time.Second

// errLookAgain ends the following of a source that is not, or no longer, primary.
var errLookAgain = errors.New("there is no primary to follow")

// follow follows one source until ctx ends, the link is lost, or the histories part.
func (f *follower) follow(ctx context.Context, own *ownCopy) error {
	src, err := f.findSource(ctx, own.tail.Marks().Committed)
	if err != nil {
		return err
	}
	defer src.close()
	f.setSource(src)
	if err := f.firstSync(ctx, own, src); err != nil {
		return fmt.Errorf("first sync from site %s: %w", src.peer.Site, err)
	}
	if err := f.committed(ctx, own.tail.Marks().Committed); err != nil {
		return err
	}
	from, err := tail.Find(ctx, src.journal, own.tail.Marks().Logged)
	if err != nil {
		return fmt.Errorf("journal at site %s: %w", src.peer.Site, err)
	}
	f.listening()
	f.enter(Replaying, nil)
	f.log.Info("following", "site", src.peer.Site, "position", own.tail.Marks().Logged.Position.String())
	if !src.primary { // look for a primary again soon
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, primaryWait)
		defer cancel()
	}
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return f.hear(inner, own, src) })
	group.Go(func() error {
		return src.journal.Follow(inner, from, func(m bus.Message) error { return f.receive(inner, own, m) })
	})
	err = group.Wait()
	if errors.Is(err, context.DeadlineExceeded) && !src.primary {
		return errLookAgain
	}
	return err
}

// receive stores one message of the source in this site's journal, if it continues the
// history there. This is the commit point of receiving: from here on the message
// survives the death of this process.
func (f *follower) receive(ctx context.Context, own *ownCopy, m bus.Message) error {
	message, err := events.DecodeJournal(m.Data)
	if err != nil {
		return fmt.Errorf("message %d: %w", m.Sequence, err)
	}
	logged := own.tail.Marks().Logged
	if !message.Follows(logged) {
		return fmt.Errorf("message %d does not continue %v: %w", m.Sequence, logged.Position, tail.ErrDiverged)
	}
	if err := own.tail.Room(ctx, len(m.Data)); err != nil {
		return err
	}
	defer own.tail.Return(len(m.Data))
	seq, err := f.append(ctx, own, message, m.Data)
	if err != nil {
		return err
	}
	own.tail.Logged(message, seq, len(m.Data))
	if claim, ok := message.(*events.TagClaimed); ok && claim.Reason == events.TagDemoted && f.followsPrimary() {
		return errLookAgain
	}
	return nil
}

func (f *follower) followsPrimary() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.source != nil && f.source.primary
}

func (f *follower) append(ctx context.Context, own *ownCopy, message events.JournalMessage, data []byte) (uint64, error) {
	site := f.service.deps.Node.Site.Name
	subject := events.EntriesSubject(site, f.id)
	if _, isTag := message.(*events.TagClaimed); isTag {
		subject = events.TagSubject(site, f.id)
	}
	for {
		seq, err := own.journal.Append(ctx, subject, data, own.tail.LastSequence())
		if !errors.Is(err, bus.ErrFull) || ctx.Err() != nil {
			return seq, err
		}
		f.log.Warn("this site's journal is full; following waits", "error", err)
		pause(ctx, fullWait)
	}
}

// hear takes the source's heads: how far it is logged, for the lag, and how far it is
// safe, which allows applying.
func (f *follower) hear(ctx context.Context, own *ownCopy, src *source) error {
	heads := make(chan *nats.Msg, 64)
	sub, err := src.bus.Conn().ChanSubscribe(events.HeadSubject(src.directory), heads)
	if err != nil {
		return fmt.Errorf("listen to heads: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only with the connection
	for {
		select {
		case msg := <-heads:
			fact, err := events.Unmarshal(msg.Data)
			if err != nil {
				return fmt.Errorf("head of the source: %w", err)
			}
			if head, ok := fact.(*events.HeadAdvanced); ok {
				own.tail.AllowTo(head.Safe.Position)
				f.noteHead(own, head)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// listening starts the clock of a source that says nothing.
func (f *follower) listening() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = time.Now()
}

func (f *follower) noteHead(own *ownCopy, head *events.HeadAdvanced) {
	level := own.tail.Marks().Applied.Position >= head.Logged.Position
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head, f.heard = head, time.Now()
	if level {
		f.level = f.heard
	}
}
