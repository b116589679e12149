package replayer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/tail"
)

// fullWait is how long a full journal at this site is waited for before it is tried
// again: a checkpoint may trim it meanwhile.
const fullWait = 500 * time.Millisecond

// primaryWait is how long a source is followed that is no primary before the peers are
// asked again.
const primaryWait = 5 * time.Second

// admitAge is how often a source is asked whether it may still be followed.
const admitAge = 3 * time.Second

// silenceMax is how long a source may say nothing before it is looked for anew.
const silenceMax = 10 * time.Second

// behindWait is how long a source that is behind this copy is given to catch up before
// the peers are asked again.
const behindWait = 500 * time.Millisecond

// claimWait is how long heads may name a tag whose claim has not come, before the source's
// journal is looked at anew: it may have lost what was read of it and gone on otherwise.
const claimWait = time.Second

// errLookAgain ends a following that must be set up anew, without anything being wrong.
var errLookAgain = errors.New("the source is to be looked for again")

// follow follows one source until ctx ends, the link is lost, or the histories part.
func (f *follower) follow(ctx context.Context, own *ownCopy) error {
	src, err := f.findSource(ctx, own)
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
	if errors.Is(err, tail.ErrAhead) && !src.primary && isPrefix(ctx, src.journal, own.journal) {
		pause(ctx, behindWait) // it has to catch up with us, not we with it
		return errLookAgain
	}
	if err != nil {
		return fmt.Errorf("journal at site %s: %w", src.peer.Site, err)
	}
	f.listening()
	f.enter(Replaying, nil)
	f.resolved()
	f.log.Info("following", "site", src.peer.Site, "position", own.tail.Marks().Logged.Position.String())
	if !src.primary { // look for a primary again soon
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, primaryWait)
		defer cancel()
	}
	own.inbox.reset(own.tail.Marks().Logged)
	group, inner := errgroup.WithContext(ctx)
	// What waits for an answer of the source, over a link that may be dead, ends with it.
	defer context.AfterFunc(inner, src.close)()
	group.Go(func() error { return f.hear(inner, own, src) })
	group.Go(func() error { return f.keepSafe(inner, own) })
	group.Go(func() error { return f.keepAsking(inner, src) })
	group.Go(func() error { return f.keepHead(inner) })
	group.Go(func() error {
		return src.journal.Follow(inner, from, func(m bus.Message) error { return f.receive(inner, own, m) })
	})
	err = group.Wait()
	if errors.Is(err, context.DeadlineExceeded) && !src.primary {
		return errLookAgain
	}
	return err
}

// isPrefix reports whether a journal ends where another one goes on. Only then is a copy
// that is ahead of a source not parted from it.
func isPrefix(ctx context.Context, short, long *bus.Log) bool {
	state, err := short.State(ctx)
	if err != nil || state.Last < state.First {
		return false
	}
	last, err := short.Get(ctx, state.Last)
	if err != nil {
		return false
	}
	message, err := events.DecodeJournal(last.Data)
	if err != nil {
		return false
	}
	_, err = tail.Find(ctx, long, message.Ends())
	return err == nil
}

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
	return own.inbox.put(ctx, received{message, m.Data})
}

// keepAsking asks the source now and then whether this site may still follow, until it
// may not. A source that does not answer is left to hear.
func (f *follower) keepAsking(ctx context.Context, src *source) error {
	tick := time.NewTicker(admitAge)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		check, err := askSource[api.SyncCheckReply](ctx, src, api.SyncCheck,
			api.SyncCheckRequest{Client: f.service.clients.Self(), Site: f.service.deps.Node.Site.UUID})
		if check.Disconnected {
			return fmt.Errorf("site %s: %w", src.peer.Site, errDisconnected)
		}
		if code := fault.CodeOf(err); err != nil && code != fault.Timeout {
			return fmt.Errorf("site %s: %w", src.peer.Site, err)
		}
	}
}

// keepSafe keeps what the source has reported safe, until the source is no primary any
// more.
func (f *follower) keepSafe(ctx context.Context, own *ownCopy) error {
	for {
		r, err := own.inbox.first(ctx)
		if err != nil {
			return err
		}
		if err := f.keep(ctx, own, r); err != nil {
			return err
		}
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
// from here on the message survives the death of this process.
func (f *follower) keep(ctx context.Context, own *ownCopy, r received) error {
	if err := own.tail.Room(ctx, len(r.data)); err != nil {
		return err
	}
	defer own.tail.Return(len(r.data))
	seq, err := f.append(ctx, own, r.message, r.data)
	if err != nil {
		return err
	}
	own.tail.Logged(r.message, seq, len(r.data))
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

// hear takes the source's heads: how far it is logged, for the lag, and how far it is
// safe, which allows applying.
func (f *follower) hear(ctx context.Context, own *ownCopy, src *source) error {
	heads := make(chan *nats.Msg, 64)
	sub, err := src.bus.Conn().ChanSubscribe(events.HeadSubject(src.directory), heads)
	if err != nil {
		return fmt.Errorf("listen to heads: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only with the connection
	quiet := time.NewTimer(silenceMax)
	defer quiet.Stop()
	for {
		select {
		case msg := <-heads:
			quiet.Reset(silenceMax)
			if err := f.takeHead(own, msg.Data); err != nil {
				return err
			}
			if !f.service.clients.Peers.Has(f.name.Pool, src.peer.Peer) {
				return fault.New(fault.NotReady, "site %s is no peer of pool %s any more", src.peer.Site, f.name.Pool)
			}
		case <-quiet.C:
			return fault.New(fault.Timeout, "nothing was heard from site %s for %s", src.peer.Site, silenceMax)
		case <-ctx.Done():
			return nil
		}
	}
}

func (f *follower) takeHead(own *ownCopy, data []byte) error {
	fact, err := events.Unmarshal(data)
	if err != nil {
		return fmt.Errorf("head of the source: %w", err)
	}
	head, ok := fact.(*events.HeadAdvanced)
	if !ok {
		return fault.New(fault.Corrupt, "the source sent a %s for a head", fact.Kind())
	}
	f.noteHead(own, head)
	if slices.Contains(head.Disconnected, f.service.clients.Self()) {
		return errLookAgain // and be told so when registering, unless that has changed
	}
	if !own.inbox.allow(head.Safe.Position) {
		f.aheadSince = time.Time{}
		return nil
	}
	if f.aheadSince.IsZero() {
		f.aheadSince = time.Now()
	}
	if time.Since(f.aheadSince) > claimWait {
		f.aheadSince = time.Time{}
		return errLookAgain
	}
	return nil
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
	f.headAt = f.heard
	if level {
		f.level = f.heard
	}
}
