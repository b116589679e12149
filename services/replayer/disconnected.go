package replayer

import (
	"context"
	"errors"
	"fmt"

	"tidemark/events"
)

// errDisconnected says that the owner's journal no longer waits for this copy: what the
// copy lacks may be gone there, so it stops for good rather than when it finds out.
var errDisconnected = errors.New("the owner's journal no longer waits for this copy, which was too far behind or was disconnected by an operator")

// disconnect stops following until the directory is released. This site remembers it, in
// POSITIONS, across restarts; an operator has the way out.
func (f *follower) disconnect(ctx context.Context, own *ownCopy, why error) {
	f.disconnected.Store(true)
	f.failed(why)
	err := fmt.Errorf("%w; `tidemark mirror resync %s` brings it back", why, f.name)
	f.enter(Disconnected, err)
	f.log.Error("not following any more", "error", err)
	f.noteWith(f.service.clients.Self(), events.Disconnected, err.Error())
	if err := f.committed(ctx, own.tail.Marks().Committed); err != nil {
		f.log.Warn("commit position not published", "error", err)
	}
	<-ctx.Done()
	f.enter(Stopped, nil)
}

// remainsDisconnected reports whether this copy was disconnected, and has been neither
// synced nor promoted since.
func (f *follower) remainsDisconnected(own *ownCopy) bool {
	if own.replica.Applied() == (events.Mark{}) {
		return false
	}
	if tag := own.replica.Tag(); tag != nil && tag.Site == f.service.deps.Node.Site.UUID {
		return false
	}
	return f.disconnected.Load() || f.service.shared.Disconnected(f.id, f.service.clients.Self())
}

// reconnected makes this site remember that a copy which is empty was let in again: said
// before the first sync begins, because a copy that is not empty is believed to be
// disconnected still.
func (f *follower) reconnected(ctx context.Context) error {
	f.disconnected.Store(false)
	position := f.position(events.Mark{})
	position.Registered = true
	return f.tenure.Announce(ctx, position)
}
