package policy

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/peers"
)

const (
	// askTime bounds the question to another site about its copy, the connection included.
	askTime = 2 * time.Second
	// arriveTime is how long a promotion waits for what another site has and this one has
	// not: a demotion takes a moment to arrive.
	arriveTime = 2 * time.Second
	arriveAge  = 10 * time.Millisecond
	// consentTime is how old a proposal may be that is carried out.
	consentTime = 15 * time.Second
)

// propose makes it known that the site is about to own a directory, and returns the
// sequence of that. Of two sites that do so at a time, each finds the proposal of the
// other when it asks for consent, or one of them was answered before the other proposed.
func (s *Service) propose(ctx context.Context, name events.DirectoryName) (id events.DirectoryID, seq uint64, err error) {
	seq, err = s.change(ctx, "promote "+name.String(), events.StreamDirectories, func() (events.Fact, error) {
		d, err := s.findStaying(name)
		if err != nil {
			return nil, err
		}
		v := newView(s.state, d.ID, now(), "")
		if d.Intent.Role == events.Master || v.proposes() {
			return nil, alreadyIs(name, "primary", v.proposes() || v.promotes())
		}
		if err := v.placeable(events.Master); err != nil {
			return nil, err
		}
		id = d.ID
		return &events.PromotionProposed{Directory: id, Pool: name.Pool, At: v.now}, nil
	})
	return id, seq, err
}

// withdraw ends a proposal, so that another site need not wait for its end.
func (s *Service) withdraw(ctx context.Context, id events.DirectoryID, seq uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
	defer cancel()
	_, err := s.commit(ctx, func() (string, events.Fact, error) {
		d := s.state.Directories[id]
		if d == nil || d.Proposal.Sequence != seq {
			return events.StreamDirectories, nil, nil
		}
		return events.StreamDirectories, &events.PromotionWithdrawn{Directory: id, Pool: d.Name.Pool, At: now()}, nil
	})
	if err != nil {
		s.log.Warn("proposed promotion not withdrawn: it ends by itself", "directory", id, "error", err)
	}
}

// consent returns nil if no other site of the pool is primary of a directory, or about to
// be, and all that another one has of it is here. A site that cannot be asked may be
// primary: only an operator can know better. Nothing is held while the sites are asked.
func (s *Service) consent(ctx context.Context, id events.DirectoryID, name events.DirectoryName) error {
	var newest api.PeerCopy
	for _, c := range s.askPeers(ctx, name, askTime) {
		switch {
		case c.Role == events.Master:
			return fault.New(fault.Busy,
				"promote %s: site %s is primary of it; demote it there first, or promote with --force and lose what has not arrived",
				name, c.Site)
		case c.Promoting:
			return fault.New(fault.Busy, "promote %s: site %s is being promoted at this moment; promote only one of them", name, c.Site)
		case c.Error != "":
			return fault.New(fault.Busy,
				"promote %s: site %s may be primary and cannot be asked: %s; if it is gone for good, promote with --force",
				name, c.Site, c.Error)
		case c.Position.Position > newest.Position.Position:
			newest = c
		}
	}
	if newest.Site == "" {
		return nil
	}
	return s.arrived(ctx, id, name, newest)
}

// arrived returns nil once this site's journal of a directory reaches as far as another
// site's: only then is the demotion that it holds the last one.
func (s *Service) arrived(ctx context.Context, id events.DirectoryID, name events.DirectoryName, there api.PeerCopy) error {
	deadline := time.Now().Add(arriveTime)
	tick := time.NewTicker(arriveAge)
	defer tick.Stop()
	for {
		here, err := s.askHolder(ctx, s.bus.Conn(), id, askTime)
		switch {
		case err != nil:
			return fault.New(fault.NotReady, "promote %s: how far its copy here has come is unknown: %w", name, err)
		case here.Position.Position > there.Position.Position:
			return nil
		case here.Position.Position == there.Position.Position:
			if !here.Position.Same(there.Position) {
				return fault.New(fault.SplitBrain, "promote %s: its histories here and at site %s have parted before position %s",
					name, there.Site, there.Position.Position)
			}
			return nil
		case time.Now().After(deadline):
			return fault.New(fault.Busy,
				"promote %s: site %s has more of its history, up to %s, and this site has it up to %s; wait until it has arrived (tidemark mirror status %s), or promote with --force and lose it",
				name, there.Site, there.Position.Position, here.Position.Position, name)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// mirrorPeers says what the pool's other sites have of a directory.
func (s *Service) mirrorPeers(ctx context.Context, r events.DirectoryName) ([]api.PeerCopy, error) {
	name, err := checkName(r)
	if err != nil {
		return nil, err
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	_, err = s.find(name)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return s.askPeers(ctx, name, 0), nil
}

// askPeers asks the peers of a pool that have an address, all at a time. patience is how
// long a copy that nobody holds, or that is not open, is waited for.
func (s *Service) askPeers(ctx context.Context, name events.DirectoryName, patience time.Duration) []api.PeerCopy {
	peers := s.askable(name.Pool)
	copies := make([]api.PeerCopy, len(peers))
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var asking sync.WaitGroup
	for i, peer := range peers {
		asking.Go(func() {
			copies[i] = s.copyAt(ctx, peer, name, patience)
		})
	}
	asking.Wait()
	return copies
}

// askable returns the peers of a pool that have an address.
func (s *Service) askable(pool string) []events.PeerAdded {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.state.Pools[pool]
	if p == nil {
		return nil
	}
	var peers []events.PeerAdded
	for _, peer := range p.Peers {
		if peer.URL != "" {
			peers = append(peers, peer)
		}
	}
	return peers
}

// copyAt asks a peer what it has of a directory.
func (s *Service) copyAt(ctx context.Context, peer events.PeerAdded, name events.DirectoryName, patience time.Duration) api.PeerCopy {
	c := api.PeerCopy{Site: peer.Site}
	err := func() error {
		options, err := s.dialer.Options(peer)
		if err != nil {
			return err
		}
		nc, err := nats.Connect(peer.URL, append(options, nats.Name("tidemark promote"), nats.Timeout(askTime),
			nats.NoReconnect(), nats.RetryOnFailedConnect(false))...)
		if err != nil {
			return fmt.Errorf("connect to %s: %w", peer.URL, peers.Refused(err, "the key of this site"))
		}
		defer nc.Close()
		d, err := api.Call[api.Directory](ctx, nc, api.SharedResolve(name.Pool), name)
		if fault.CodeOf(err) == fault.NotFound {
			return nil
		}
		if err != nil {
			return err
		}
		c.Role, c.Promoting = d.Role, d.Promoting
		if d.Role == events.Master || d.Promoting {
			return nil
		}
		status, err := s.askHolder(ctx, nc, d.ID, patience)
		c.Position = status.Position
		return err
	}()
	if err != nil {
		c.Error = err.Error()
	}
	return c
}

// askHolder asks whoever holds a directory, here or at another site, how far it has come.
// One whose copy is not open does not know: it may just be opening it, or handing it over, so
// it is asked again for as long as patience lasts.
func (s *Service) askHolder(ctx context.Context, nc *nats.Conn, id events.DirectoryID, patience time.Duration) (api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	tick := time.NewTicker(arriveAge)
	defer tick.Stop()
	deadline := time.Now().Add(patience)
	var before error
	for {
		status, err := api.Call[api.Status](ctx, nc, api.HolderSubject(id, api.DirectoryStatus), api.Nothing{})
		switch {
		case err == nil && status.Stream != "":
			return status, nil
		case err == nil:
			err = fault.New(fault.NotReady, "the copy is not open (%s): %s", status.State, cmp.Or(status.Error, "try again"))
		case ctx.Err() != nil && before != nil:
			return status, before // it says more
		case !api.Nobody(err) && fault.CodeOf(err) != fault.NotReady: // else it ends or begins
			return status, err
		}
		if time.Now().After(deadline) {
			return status, err
		}
		before = err
		select {
		case <-tick.C:
		case <-ctx.Done():
			return status, err
		}
	}
}
