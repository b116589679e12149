package replayer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/fault"
)

// silenceMax is how long nothing may come from a source, which sends a head every second,
// before it is dialled anew. A connection whose packets are dropped is not waited for: TCP
// sends them again later and later, and long after the link is back.
const silenceMax = 3 * time.Second

// bulkSilenceMax is how long no byte of the journal may come that the source has.
const bulkSilenceMax = 5 * time.Second

// claimWait is how long heads may name a tag whose claim has not come, before the source's
// journal is looked at anew: it may have lost what was read of it and gone on otherwise.
const claimWait = time.Second

// headWait is how often a first head is looked for; a source sends one every second.
const headWait = 20 * time.Millisecond

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
			if err := f.mirrored(); err != nil {
				return err
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
		f.missed.Store(true)
		return errLookAgain
	}
	return nil
}

// awaitHead waits for the first head of a source if the last reading ended because a claim
// did not come: of what stands before that, begin must know that it is safe.
func (f *follower) awaitHead(ctx context.Context) {
	if !f.missed.Swap(false) {
		return
	}
	for ctx.Err() == nil && !f.hasHead() {
		pause(ctx, headWait)
	}
}

func (f *follower) hasHead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unread != nil
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
