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
func (f *follower) findSource(ctx context.Context, committed events.Mark) (*source, error) {
	peers := f.service.peers.Receivable(f.name.Pool)
	if len(peers) == 0 {
		return nil, fault.New(fault.NotReady, "pool %s has no peer to follow", f.name.Pool)
	}
	var all error
	var found *source
	for _, peer := range peers {
		src, err := f.ask(ctx, peer, committed)
		switch {
		case err != nil:
			all = errors.Join(all, fmt.Errorf("site %s at %s: %w", peer.Site, peer.URL, err))
		case src.primary:
			found.close()
			return src, nil
		case found == nil:
			found = src
		default:
			src.close()
		}
	}
	if found != nil {
		return found, nil
	}
	return nil, all
}

// ask connects to a peer that has the directory, and makes this site known there.
func (f *follower) ask(ctx context.Context, peer events.PeerAdded, committed events.Mark) (src *source, err error) {
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
	src = &source{peer: peer, bus: b, directory: at.ID, primary: at.Role == events.Master}
	src.begin, err = api.Call[holder.SyncBeginReply](ctx, b.Conn(), api.HolderSubject(at.ID, api.SyncBegin),
		api.SyncBeginRequest{Client: f.service.client(), Site: f.service.deps.Node.Site.UUID, Mark: committed})
	if err != nil {
		return nil, err
	}
	src.journal, err = b.ExistingLog(ctx, src.begin.Stream)
	return src, err
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
