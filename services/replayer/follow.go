package replayer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/tail"
)

// admitAge is how often a source is asked whether it may still be followed.
const admitAge = 3 * time.Second

// behindWait is how long a source that is behind this copy is given to catch up before
// the peers are asked again.
const behindWait = 500 * time.Millisecond

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
	f.resolved(ctx, src.peer.Site)
	f.log.Info("following", "site", src.peer.Site, "position", own.tail.Marks().Logged.Position.String())
	return f.carry(ctx, own, src, from)
}

// carry takes what a source's journal holds from a message on, and what comes, until ctx
// ends, the link is lost, or the histories part.
func (f *follower) carry(ctx context.Context, own *ownCopy, src *source, from uint64) error {
	f.awaitHead(ctx)
	own.inbox.reset(own.tail.Marks().Logged)
	if head := f.setReading(true); head != nil {
		own.inbox.begin(head.Safe.Position)
	}
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return f.keepSafe(inner, own, src) })
	group.Go(func() error { return f.seekBetter(inner, src) })
	if !own.borrowed {
		group.Go(func() error { return f.committed(inner, own.tail.Marks().Committed) })
	}
	group.Go(func() error { return f.read(inner, own, src, from) })
	err := group.Wait()
	if errors.Is(err, errMoved) {
		f.kept = place{}
	}
	return err
}

// errMoved says that a source's journal does not go on where it was followed last.
var errMoved = fmt.Errorf("the journal there is another than before: %w", errLookAgain)

// read takes the messages of a source's journal. The first one may be what was kept last: it is
// read again to see that the journal is still the same, which takes no round trip of its own.
func (f *follower) read(ctx context.Context, own *ownCopy, src *source, from uint64) error {
	again := from == src.from.sequence
	err := src.journal.Follow(ctx, from, func(m bus.Message) error {
		if !again {
			return f.receive(ctx, own, m)
		}
		again = false
		if message, err := events.DecodeJournal(m.Data); err != nil || !message.Ends().Same(src.from.ends) {
			return errMoved
		}
		return nil
	})
	var gap *bus.GapError
	if again && errors.As(err, &gap) {
		return errMoved
	}
	return err
}

// place is where a message stands in a source's journal.
type place struct {
	peer, stream string
	sequence     uint64
	ends         events.Mark
	made         time.Time // when the stream was; zero: not known
}

// expect opens the journal that was followed last, while the source is asked how it stands:
// over a link each question takes a round trip.
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
	if made, last := journal.Opened(); made.Equal(at.made) && last >= at.sequence {
		src.from = at
	}
}

// in reports whether a journal has the place.
func (p place) in(ctx context.Context, journal *bus.Log) bool {
	m, err := journal.Get(ctx, p.sequence)
	if err != nil {
		return false
	}
	message, err := events.DecodeJournal(m.Data)
	return err == nil && message.Ends().Same(p.ends)
}

// whereIn returns the sequence of the message at a source that continues a history which
// ends at mark, or where the one that ends there was when it was kept.
func (f *follower) whereIn(ctx context.Context, src *source, mark events.Mark) (uint64, error) {
	if src.from.stream == src.begin.Stream && src.from.ends.Same(mark) && mark != (events.Mark{}) {
		return src.from.sequence, nil // which read finds out
	}
	src.from = place{}
	if at := f.kept; at.sequence > 0 && at.peer == src.peer.Peer && at.stream == src.begin.Stream && at.ends.Same(mark) && at.in(ctx, src.journal) {
		return at.sequence + 1, nil // where the copying began
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

// keepAsking asks the source now and then whether this site may still follow, until it
// may not. A source that does not answer is left to hear. One that is not ready is asked once
// more: it may only be ending, and another holder of the directory follows it.
func (f *follower) keepAsking(ctx context.Context, src *source) error {
	for age, again := admitAge, false; ; {
		pause(ctx, age)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is how it ends
		}
		check, err := askSource[api.SyncCheckReply](ctx, src, api.SyncCheck,
			api.SyncCheckRequest{Client: f.service.clients.Self(), Site: f.service.deps.Node.Site.UUID})
		if check.Disconnected {
			return fmt.Errorf("site %s: %w", src.peer.Site, errDisconnected)
		}
		switch code := fault.CodeOf(err); {
		case code == fault.NotReady && !again:
			age, again = behindWait, true
		case err != nil && code != fault.Timeout:
			return fmt.Errorf("site %s: %w", src.peer.Site, err)
		default:
			age, again = admitAge, false
		}
	}
}
