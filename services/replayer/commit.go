package replayer

import (
	"context"
	"errors"
	"time"

	"tidemark/events"
	"tidemark/internal/tail"
)

// committed announces the copy's commit position at both sites. The source is told on
// a best effort: it learns the next one; and only if this site's log has taken it, so that
// a node which was fenced tells it nothing more. [tail.ErrFenced] says that this one was.
func (f *follower) committed(ctx context.Context, mark events.Mark) error {
	position := f.position(mark)
	err := f.tenure.Announce(ctx, position)
	if errors.Is(err, tail.ErrFenced) {
		return err
	}
	f.mu.Lock()
	src := f.source
	f.mu.Unlock()
	if src != nil {
		err = errors.Join(err, src.report(ctx, position))
	}
	return err
}

// position is what this copy says of itself to those that keep a journal for it.
func (f *follower) position(mark events.Mark) events.PositionCommitted {
	state := events.ClientConnected
	if f.disconnected.Load() {
		state = events.ClientDisconnected
	}
	return events.PositionCommitted{
		Directory: f.id, Client: f.service.clients.Self(), Site: f.service.deps.Node.Site.UUID, Role: events.Slave,
		State: state, Mark: mark, At: events.InstantOf(time.Now()),
	}
}
