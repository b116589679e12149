package replayer

import (
	"context"
	"errors"
	"sync"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
)

// errFollowsAgain says that a source need not be told any more that this site left.
var errFollowsAgain = errors.New("the directory is followed there again")

// departures are the sources that are being told that this node needs nothing of them any
// more. That may take as long as it likes, so it must never be said of a registration that
// comes later: registering anew stops what was not said yet, and what was is said over the
// source's last word on this client as it was before (see [follower.leave]).
type departures struct {
	mu sync.Mutex
	of map[departure]*leaving
}

// departure names a directory of this site and the site that it was followed at, by UUID.
type departure struct {
	directory events.DirectoryID
	peer      string
}

type leaving struct{ cancel context.CancelCauseFunc }

// begin returns a context that ends when the directory is about to be followed there again.
func (d *departures) begin(ctx context.Context, id events.DirectoryID, peer string) (inner context.Context, end func()) {
	inner, cancel := context.WithCancelCause(ctx)
	key, l := departure{id, peer}, &leaving{cancel}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == nil {
		d.of = map[departure]*leaving{}
	}
	if before := d.of[key]; before != nil {
		before.cancel(errFollowsAgain) // or it would speak of a later registration
	}
	d.of[key] = l
	return inner, func() {
		cancel(nil)
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.of[key] == l {
			delete(d.of, key)
		}
	}
}

// stop ends a departure, if there is one.
func (d *departures) stop(id events.DirectoryID, peer string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.of[departure{id, peer}]; l != nil {
		l.cancel(errFollowsAgain)
	}
}

// depart tells the last source that this node needs nothing of it any more. What is
// to be promoted does not wait for that: its source may be gone.
func (s *Service) depart(ctx context.Context, f *follower, wait bool) {
	last := f.lastSource()
	if last == nil {
		return
	}
	if !wait {
		ctx = s.ctx
	}
	ctx, end := s.departures.begin(ctx, f.id, last.peer.Peer)
	leave := func() {
		defer end()
		f.leave(ctx, last)
	}
	if wait {
		leave()
		return
	}
	s.running.Go(leave)
}

// leave tells a source that this client is gone.
func (f *follower) leave(ctx context.Context, last *source) {
	err := f.sayLeft(ctx, last)
	if err != nil && !errors.Is(context.Cause(ctx), errFollowsAgain) {
		f.log.Warn("the source was not told that this site stopped following; its journal waits for this site until the peer is removed there",
			"site", last.peer.Site, "error", err)
	}
}

// sayLeft does so once. The connection to the source is made anew: the one that was followed
// with has ended.
func (f *follower) sayLeft(ctx context.Context, last *source) error {
	w, err := f.dial(ctx, ", leaving", last.peer)
	if err != nil {
		return err
	}
	defer w.Close()
	return f.sayRemoved(ctx, &source{talk: w, directory: last.directory})
}

// sayRemoved puts the word that this client is none any more over the last one that the
// source has on it, as long as ctx lasts. A registration that comes in between stands.
func (f *follower) sayRemoved(ctx context.Context, src *source) error {
	bounded, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	for {
		over, err := f.lastWord(bounded, src)
		if fault.CodeOf(err) == fault.NotFound {
			return nil // it is none there
		}
		if err == nil {
			err = f.removeOver(bounded, src, over)
		}
		if !errors.Is(err, bus.ErrOvertaken) {
			return err
		}
	}
}

// lastWord returns the sequence of the source's last word on this client.
func (f *follower) lastWord(ctx context.Context, src *source) (uint64, error) {
	reply, err := askSource[api.PositionLastReply](ctx, src, api.PositionLast, api.PositionLastRequest{Client: f.service.clients.Self()})
	return reply.Sequence, err
}

// removeOver says that this client is none any more, if over is the last word on it;
// [bus.ErrOvertaken] if it is not.
func (f *follower) removeOver(ctx context.Context, src *source, over uint64) error {
	reply, err := askSource[api.PositionReportReply](ctx, src, api.PositionReport, api.PositionReportRequest{
		Position: events.PositionCommitted{
			Client: f.service.clients.Self(), Site: f.service.deps.Node.Site.UUID, Role: events.Slave,
			State: events.ClientRemoved, At: events.InstantOf(time.Now()),
		},
		Over: over,
	})
	if reply.Overtaken {
		return bus.ErrOvertaken
	}
	return err
}
