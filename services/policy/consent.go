package policy

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// consent returns nil if no other site of the pool is primary of a directory. A site that
// cannot be asked may be: only an operator can know better. Nothing is held while the
// other sites are reached.
func (s *Service) consent(ctx context.Context, r events.DirectoryName) error {
	name, err := checkName(r)
	if err != nil {
		return err
	}
	if err := s.current(ctx); err != nil {
		return err
	}
	for _, peer := range s.askable(name.Pool) {
		role, err := roleAt(ctx, peer, name)
		switch {
		case err != nil:
			return fault.New(fault.Busy,
				"promote %s: site %s may be primary and cannot be asked: %w; if it is gone for good, promote with --force",
				name, peer.Site, err)
		case role == events.Master:
			return fault.New(fault.Busy,
				"promote %s: site %s is primary of it; demote it there first, or promote with --force and lose what has not arrived",
				name, peer.Site)
		}
	}
	return nil
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

// roleAt asks a peer what it is for a directory; "" if it does not have it.
func roleAt(ctx context.Context, peer events.PeerAdded, name events.DirectoryName) (events.Role, error) {
	nc, err := nats.Connect(peer.URL, nats.Name("tidemark promote"), nats.Timeout(dialTime),
		nats.NoReconnect(), nats.RetryOnFailedConnect(false))
	if err != nil {
		return "", fmt.Errorf("connect to %s: %w", peer.URL, err)
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	d, err := api.Call[api.Directory](ctx, nc, api.DirectoryResolve, name)
	if fault.CodeOf(err) == fault.NotFound {
		return "", nil
	}
	return d.Role, err
}
