package replayer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
)

// askTime bounds one question to another site.
const askTime = 5 * time.Second

// source is a site whose journal of a directory is followed, and our connection to it.
type source struct {
	peer      events.PeerAdded
	bus       *bus.Bus
	directory events.DirectoryID // at the source
	primary   bool               // the source owns the directory
	begin     holder.SyncBeginReply
	journal   *bus.Log
}

// findSource asks the pool's peers for the directory and connects to its primary.
// While there is none, it connects to another follower: that may hold more of the
// history than this site, above all the demotion of the last primary.
//
// A source whose history has parted from this copy's is not told that it is followed: it
// would keep its journal for nothing.
func (f *follower) findSource(ctx context.Context, own *ownCopy) (*source, error) {
	peers := f.service.clients.Peers.Receivable(f.name.Pool)
	if len(peers) == 0 {
		return nil, fault.New(fault.NotReady, "pool %s has no peer to follow", f.name.Pool)
	}
	var all error
	var found *source
	for _, peer := range peers {
		src, err := f.ask(ctx, peer)
		switch {
		case err != nil:
			all = errors.Join(all, fmt.Errorf("site %s at %s: %w", peer.Site, peer.URL, err))
			continue
		case found == nil || src.primary:
			found.close()
			found = src
		default:
			src.close()
		}
		if found.primary {
			break
		}
	}
	if found == nil {
		return nil, all
	}
	f.service.departures.stop(f.id, found.peer.Peer)
	err := f.compare(ctx, own, found)
	if err == nil {
		err = f.register(ctx, found, own.tail.Marks().Committed, own.unsynced())
	}
	if err != nil {
		found.close()
		return nil, fmt.Errorf("site %s at %s: %w", found.peer.Site, found.peer.URL, err)
	}
	return found, nil
}

// ask connects to a peer that has the directory.
func (f *follower) ask(ctx context.Context, peer events.PeerAdded) (src *source, err error) {
	b, err := bus.Connect(bus.Config{
		Name: "tidemark replayer of " + f.service.deps.Node.Site.Name, URL: peer.URL, Log: f.log,
		Options: []nats.Option{nats.Timeout(askTime)},
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	at, err := api.Call[api.Directory](ctx, b.Conn(), api.DirectoryResolve, f.name)
	if err != nil {
		return nil, err
	}
	return &source{peer: peer, bus: b, directory: at.ID, primary: at.Role == events.Master}, nil
}

// register makes this site known to the source, which then trims nothing that it needs.
func (f *follower) register(ctx context.Context, src *source, committed events.Mark, copying bool) (err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	src.begin, err = askSource[holder.SyncBeginReply](ctx, src, api.SyncBegin,
		api.SyncBeginRequest{Client: f.service.clients.Self(), Site: f.service.deps.Node.Site.UUID, Mark: committed, Copying: copying})
	if err != nil {
		return err
	}
	if src.begin.Disconnected {
		return errDisconnected
	}
	src.journal, err = src.bus.ExistingLog(ctx, src.begin.Stream)
	return err
}

// askSource asks the source's holder of the directory. An answer that does not come in time
// never will: it is lost when the source ends, and starts again, before it was sent.
func askSource[Reply any](ctx context.Context, s *source, kind string, request any) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return api.Call[Reply](ctx, s.bus.Conn(), api.HolderSubject(s.directory, kind), request)
}

// report tells the source how far its client has come.
func (s *source) report(ctx context.Context, position events.PositionCommitted) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	position.Directory = s.directory
	_, err := s.bus.Publish(ctx, events.StreamPositions, &position)
	return err
}

// close ends the connection; a source that is none has none.
func (s *source) close() {
	if s != nil {
		s.bus.Close()
	}
}
