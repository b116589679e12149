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

// admitAge is how often a source is asked whether it may still be followed.
const admitAge = 3 * time.Second

// silenceMax is how long nothing may come from a source, which sends a head every second,
// before it is dialled anew. A connection whose packets are dropped is not waited for: TCP
// sends them again later and later, and long after the link is back.
const silenceMax = 3 * time.Second

// bulkSilenceMax is how long no byte of the journal may come that the source has.
const bulkSilenceMax = 5 * time.Second

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
	return f.attend(ctx, own, src, func(ctx context.Context) error { return f.copyAndRead(ctx, own, src) })
}

// attend hears a source, and watches over the connections to it, while a copy takes from it.
func (f *follower) attend(ctx context.Context, own *ownCopy, src *source, take func(context.Context) error) error {
	f.setReading(false)
	group, inner := errgroup.WithContext(ctx)
	// What waits for an answer of the source, over a link that may be dead, ends with it.
	defer context.AfterFunc(inner, src.close)()
	group.Go(func() error { return f.hear(inner, own, src) })
	group.Go(func() error { return f.watchWires(inner, own, src) })
	group.Go(func() error { return f.keepAsking(inner, src) })
	group.Go(func() error { return f.keepHead(inner) })
	group.Go(func() error { return take(inner) })
	return group.Wait()
}

// copyAndRead makes the copy complete, and then follows the source's journal.
func (f *follower) copyAndRead(ctx context.Context, own *ownCopy, src *source) error {
	if err := f.firstSync(ctx, own, src); err != nil {
		return fmt.Errorf("first sync from site %s: %w", src.peer.Site, err)
	}
	from, err := f.whereIn(ctx, src, own.tail.Marks().Logged)
	if errors.Is(err, tail.ErrAhead) && !src.primary && isPrefix(ctx, src.journal, own.journal) {
		pause(ctx, behindWait) // it has to catch up with us, not we with it
		return errLookAgain
	}
	if err != nil {
		return fmt.Errorf("journal at site %s: %w", src.peer.Site, err)
	}
	f.enter(Replaying, nil)
	f.resolved()
	f.log.Info("following", "site", src.peer.Site, "position", own.tail.Marks().Logged.Position.String())
	return f.carry(ctx, own, src, from)
}

// carry takes what a source's journal holds from a message on, and what comes, until ctx
// ends, the link is lost, or the histories part.
func (f *follower) carry(ctx context.Context, own *ownCopy, src *source, from uint64) error {
	own.inbox.reset(own.tail.Marks().Logged)
	if head := f.setReading(true); head != nil {
		own.inbox.allow(head.Safe.Position)
	}
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return f.keepSafe(inner, own, src) })
	group.Go(func() error { return f.seekBetter(inner, src) })
	if !own.borrowed {
		group.Go(func() error { return f.committed(inner, own.tail.Marks().Committed) })
	}
	group.Go(func() error {
		return src.journal.Follow(inner, from, func(m bus.Message) error { return f.receive(inner, own, m) })
	})
	return group.Wait()
}

// place is where a message stands in a source's journal.
type place struct {
	peer, stream string
	sequence     uint64
	ends         events.Mark
}

// expect looks for where the journal goes on that was followed last, while the source is
// asked what else there is to know: over a link each question takes a round trip.
func (f *follower) expect(ctx context.Context, src *source) {
	at := f.kept
	if at.peer != src.peer.Peer {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	journal, err := src.bulk.ExistingLog(ctx, at.stream)
	if err != nil {
		return // it will be met again, if it matters
	}
	src.journal = journal
	if m, err := journal.Get(ctx, at.sequence); err == nil {
		if message, err := events.DecodeJournal(m.Data); err == nil && message.Ends().Same(at.ends) {
			src.from = at
		}
	}
}

// whereIn returns the sequence of the message at a source that continues a history which
// ends at mark.
func (f *follower) whereIn(ctx context.Context, src *source, mark events.Mark) (uint64, error) {
	if src.from.stream == src.begin.Stream && src.from.ends.Same(mark) && mark != (events.Mark{}) {
		return src.from.sequence + 1, nil
	}
	return tail.Find(ctx, src.journal, mark)
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
	if claim, ok := message.(*events.TagClaimed); ok && claim.Reason == events.TagLost {
		return fmt.Errorf("the owner has given up what its journal had lost, and its images may hold parts of that: %w", errDisconnected)
	}
	last := own.inbox.last()
	switch {
	case message.Follows(last):
	case last.Same(own.tail.Marks().Logged):
		return fmt.Errorf("message %d does not continue %v: %w", m.Sequence, last.Position, tail.ErrDiverged)
	default: // what was received and not kept may be lost at the source
		return errLookAgain
	}
	f.taking.Store(true)
	defer f.taking.Store(false)
	if err := f.rate.take(ctx, len(m.Data)); err != nil {
		return err
	}
	return own.inbox.put(ctx, received{message, m.Data, m.Sequence})
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
func (f *follower) keepSafe(ctx context.Context, own *ownCopy, src *source) error {
	for {
		r, err := own.inbox.first(ctx)
		if err != nil {
			return err
		}
		if err := f.keep(ctx, own, r); err != nil {
			return err
		}
		f.kept = place{src.peer.Peer, src.begin.Stream, r.sequence, r.message.Ends()}
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

// hear takes the source's heads: how far it is logged, for the lag, and how far it is
// safe, which allows applying.
func (f *follower) hear(ctx context.Context, own *ownCopy, src *source) error {
	heads := make(chan *nats.Msg, 64)
	sub, err := src.talk.Conn().ChanSubscribe(events.HeadSubject(src.directory), heads)
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
			src.close() // nobody waits for an answer any more
			return fmt.Errorf("nothing was heard from site %s for %s: %w", src.peer.Site, silenceMax, errLost)
		case <-src.talk.ended.Done():
			return fmt.Errorf("site %s: %w", src.peer.Site, errLost)
		case <-src.bulk.ended.Done():
			return fmt.Errorf("site %s: %w", src.peer.Site, errLost)
		case <-ctx.Done():
			return nil
		}
	}
}

// watchWires ends a following whose journal does not come, although its heads do.
func (f *follower) watchWires(ctx context.Context, own *ownCopy, src *source) error {
	tick := time.NewTicker(bulkSilenceMax / 10)
	defer tick.Stop()
	since := time.Now() // more has been waited for
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		now := time.Now()
		if !f.awaits(own) {
			since = now
		}
		if quiet := min(now.Sub(since), src.bulk.silent(now)); quiet > bulkSilenceMax {
			src.close()
			return fmt.Errorf("site %s has more of the journal, and nothing of it came for %s: %w", src.peer.Site, quiet.Round(time.Second), errLost)
		}
	}
}

// awaits reports whether the source has said that it has more than was received, and there
// is room for it.
func (f *follower) awaits(own *ownCopy) bool {
	f.mu.Lock()
	more := f.reading && f.unread != nil && f.unread.Logged.Position > own.inbox.last().Position
	f.mu.Unlock()
	return more && !f.taking.Load()
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
	if !f.isReading() || !own.inbox.allow(head.Safe.Position) {
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

// headSince returns what was last heard of the source, if that was not before a moment;
// nil: nothing yet.
func (f *follower) headSince(moment time.Time) *events.HeadAdvanced {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.headAt.Before(moment) {
		return nil
	}
	return f.head
}

// setReading says whether the source's journal is being read: what it calls safe is of the
// history that is. It returns the newest head of this source, nil if there was none yet.
func (f *follower) setReading(on bool) *events.HeadAdvanced {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reading = on; !on {
		f.unread = nil
	}
	return f.unread
}

func (f *follower) isReading() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reading
}

func (f *follower) noteHead(own *ownCopy, head *events.HeadAdvanced) {
	origin, heard := heardOf(head, time.Now())
	level := own.tail.Marks().Applied.Position >= origin.Logged.Position
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unread = head
	if f.head != nil && heard.Before(f.headAt) && f.head.At != 0 {
		return // it was heard later from another site
	}
	f.head, f.headAt = origin, heard
	if f.source != nil {
		f.headOf = f.source.peer.Site
	}
	if level {
		f.level = heard
	}
}
