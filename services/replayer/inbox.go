package replayer

import (
	"context"
	"sync"

	"tidemark/events"
)

// inboxBytesMax bounds what is received and not kept yet, in bytes. A single message
// that is larger is let in when there is no other.
const inboxBytesMax = 32 << 20

// inbox holds the messages of a source that it has not reported safe: it may still lose
// them in a power failure and go on otherwise, and a copy that had kept them would have
// parted from it for nothing. They are kept (stored in this site's journal) when the
// source reports them safe, or when the copy is promoted without the source.
type inbox struct {
	mu       sync.Mutex
	messages []received
	bytes    int
	end      events.Mark     // of the last message received
	safe     events.Position // at the source
	settled  events.Tag      // what is read of earlier tags is safe; zero: not known of any
	// changed is closed when any of that changes; nil while nobody waits.
	changed chan struct{}
}

// received is one message of a source's journal.
type received struct {
	message  events.JournalMessage
	data     []byte
	sequence uint64 // in the source's journal
}

// reset empties the inbox: what follows continues mark.
func (b *inbox) reset(mark events.Mark) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages, b.bytes, b.end, b.safe, b.settled = nil, 0, mark, mark.Position, 0
	b.announce()
}

// begin says up to where the source was safe before anything was read. If that is in a later
// tag, its claim is safe and so is all that stands before it: what is read of it can be lost
// no more. A backlog of earlier tags can be larger than the inbox.
func (b *inbox) begin(p events.Position) {
	b.mu.Lock()
	later := p.Tag() > b.end.Position.Tag()
	if later {
		b.settled, b.safe = p.Tag(), events.At(p.Tag(), 0)-1
		b.announce()
	}
	b.mu.Unlock()
	if !later {
		b.allow(p)
	}
}

// put adds a message that continues the last one. It waits while the inbox is full.
func (b *inbox) put(ctx context.Context, r received) error {
	return b.wait(ctx, func() bool {
		if b.bytes > 0 && b.bytes+len(r.data) > inboxBytesMax {
			return false
		}
		b.messages = append(b.messages, r)
		b.bytes += len(r.data)
		b.end = r.message.Ends()
		if batch, ok := r.message.(*events.Batch); ok {
			b.safe = max(b.safe, batch.Safe)
		}
		b.announce()
		return true
	})
}

// allow says that the source has reported everything up to a position safe. Positions
// of different tags cannot be compared before the chain has brought the later tag's
// claim: the source may have lost what was received of the earlier one. Then nothing is
// allowed, and ahead is true, unless that claim was safe before anything was read.
func (b *inbox) allow(p events.Position) (ahead bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.Tag() > b.end.Position.Tag() {
		return p.Tag() > b.settled
	}
	if p > b.safe {
		b.safe = p
		b.announce()
	}
	return false
}

// first waits for the oldest message to be safe, and returns it. It stays until dropped.
func (b *inbox) first(ctx context.Context) (r received, err error) {
	err = b.wait(ctx, func() bool {
		if len(b.messages) == 0 || b.messages[0].message.Ends().Position > b.safe {
			return false
		}
		r = b.messages[0]
		return true
	})
	return r, err
}

// drop removes the oldest message: it was kept.
func (b *inbox) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes -= len(b.messages[0].data)
	b.messages[0] = received{}
	b.messages = b.messages[1:]
	b.announce()
}

// oldest returns the oldest message, safe or not.
func (b *inbox) oldest() (r received, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.messages) == 0 {
		return received{}, false
	}
	return b.messages[0], true
}

// last returns the mark of what was received last.
func (b *inbox) last() events.Mark {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.end
}

// wait returns when done, which is called under the lock, is true.
func (b *inbox) wait(ctx context.Context, done func() bool) error {
	for {
		b.mu.Lock()
		if done() {
			b.mu.Unlock()
			return nil
		}
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// announce wakes all who wait. It is called under the lock.
func (b *inbox) announce() {
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}
