package policy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/peers"
	"tidemark/internal/site"
)

const (
	dialTime = 5 * time.Second
	joinTime = 10 * time.Second
	// joinTries bounds the site numbers that are tried: each time all that the other
	// site knows are avoided.
	joinTries  = 4
	numbersMax = events.MaxSiteNumber
	// A site's NATS may not know a token yet that was made a moment ago: its gate leaves it in
	// peace for up to 5 s after it was told of others.
	newTokenTime = 6 * time.Second
	newTokenWait = 250 * time.Millisecond
)

// peerImport brings this site to the site that created a token, as a peer of a pool.
// Nothing is held while the other site is reached.
func (s *Service) peerImport(ctx context.Context, r api.PeerImportRequest) (api.Peer, error) {
	if r.Direction == "" {
		r.Direction = events.ReceiveAndSend
	}
	if r.Direction != events.ReceiveAndSend && r.Direction != events.ReceiveOnly {
		return api.Peer{}, badDirection(r.Direction)
	}
	if err := s.current(ctx); err != nil {
		return api.Peer{}, err
	}
	token, err := s.checkImport(r)
	if err != nil {
		return api.Peer{}, err
	}
	if s.receives(r.Pool, token.UUID) {
		r.Direction = events.ReceiveAndSend // it follows us, and we are about to follow it
	}
	join := api.JoinRequest{
		Pool: r.Pool, Token: token.Token, Secret: string(token.Secret), UUID: s.node.Site.UUID, Direction: r.Direction,
		Key: s.dialer.Public(),
	}
	if r.Direction == events.ReceiveAndSend {
		if err := checkURL(s.node.URL); err != nil {
			return api.Peer{}, fault.New(fault.NotReady, "this site cannot be reached by a peer (--direction %s needs no address): %w", events.ReceiveOnly, err)
		}
		join.URL, join.Auth = s.node.URL, s.node.Auth
	}
	reply, err := s.join(ctx, token, join)
	if err != nil {
		return api.Peer{}, err
	}
	// The peer is added last: while it is unknown here, an import that was cut short can be
	// made again with the same token.
	if _, err := s.switchOn(ctx, r.Pool); err != nil {
		return api.Peer{}, err
	}
	var added *events.PeerAdded
	err = s.changePool(ctx, "add a peer of", r.Pool, func(p *Pool) (events.Fact, error) {
		if err := s.checkNewPeer(r.Pool, p, token.UUID, reply.Site); err != nil {
			return nil, err
		}
		added = &events.PeerAdded{
			Pool: r.Pool, Peer: token.UUID, Site: reply.Site, URL: token.URL, Direction: r.Direction, Number: reply.Number, At: now(),
			Key: reply.Key, Auth: token.Seed != "",
		}
		return added, nil
	})
	if err != nil {
		return api.Peer{}, err
	}
	return apiPeer(*added), nil
}

// checkImport checks everything that can be known before the other site is reached.
func (s *Service) checkImport(r api.PeerImportRequest) (bootstrap, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.state.Pools[r.Pool]
	if p == nil {
		return bootstrap{}, fault.New(fault.NotFound, "there is no pool %q: create it first (tidemark pool create %s)", r.Pool, r.Pool)
	}
	token, err := decodeToken(r.Token)
	if err != nil {
		return token, err
	}
	switch {
	case token.Pool != r.Pool:
		return token, fault.New(fault.Usage, "the token is for the pool %q, not for %q", token.Pool, r.Pool)
	case token.UUID == s.node.Site.UUID:
		return token, fault.New(fault.Busy, "the token was created by this very site (%s): a site cannot be its own peer", token.Site)
	case token.Expires <= now():
		return token, fault.New(fault.Denied, "the token expired at %s: create a new one at site %s",
			token.Expires.Time().Format(time.RFC3339), token.Site)
	}
	return token, s.checkNewPeer(r.Pool, p, token.UUID, token.Site)
}

// receives reports whether a site is a peer that came here to receive.
func (s *Service) receives(pool, uuid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.state.Pools[pool]
	return p != nil && p.Peers[uuid].Direction == events.SendOnly
}

// checkNewPeer says why a site cannot be added to those that a pool may follow: it is one
// of them, or cannot be told from another. s.mu is held.
func (s *Service) checkNewPeer(pool string, p *Pool, uuid, name string) error {
	// A peer without an address is one that came here to receive: its own token adds
	// the other direction.
	if known, ok := p.Peers[uuid]; ok && known.URL != "" {
		return fault.New(fault.Exists,
			"site %s is a peer of the pool %q already: to change its address or direction, remove it first (tidemark mirror peer remove %s %s)",
			known.Site, pool, pool, uuid)
	}
	return s.checkPeerName(pool, p, uuid, name)
}

// checkPeerName refuses a site that is called like this one or like another peer of the
// pool: nodes are known at other sites as SITE.NODE, and journals would take the followers
// at both for one. s.mu is held.
func (s *Service) checkPeerName(pool string, p *Pool, uuid, name string) error {
	const tell = "a site keeps the name that it was founded with, so found one of them anew under another"
	if who := s.identity(); who.UUID != uuid && who.Name == name {
		return fault.New(fault.Exists, "two sites are both called %q, and sites that share a pool are told apart by name: %s", name, tell)
	}
	for _, known := range p.Peers {
		if known.Peer != uuid && known.Site == name {
			return fault.New(fault.Exists, "the pool %q has another peer that is called %q already (%s), and peers are told apart by name: %s",
				pool, name, known.Peer, tell)
		}
	}
	return nil
}

// join asks the token's site to be let in, under another number if ours is taken.
func (s *Service) join(ctx context.Context, token bootstrap, r api.JoinRequest) (api.JoinReply, error) {
	nc, err := s.reach(ctx, token)
	if err != nil {
		return api.JoinReply{}, fault.New(fault.CodeOf(err), "import token: connect to site %s at %s: %w", token.Site, token.URL, err)
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	for range joinTries {
		s.mu.Lock()
		who := s.identity()
		s.mu.Unlock()
		r.Site, r.Number = who.Name, who.Number
		reply, err := api.Call[api.JoinReply](ctx, nc, api.PeerJoin, r)
		if err != nil {
			return reply, fault.New(fault.CodeOf(err), "import token: join site %s at %s: %w", token.Site, token.URL, err)
		}
		if err := checkReply(token, reply); err != nil {
			return reply, fault.New(fault.Denied, "import token: join site %s at %s: %w", token.Site, token.URL, err)
		}
		if !reply.Taken {
			return reply, nil
		}
		if err := s.renumber(ctx, reply.Numbers); err != nil {
			return reply, fault.New(codeOf(err), "import token: choose another site number: %w", err)
		}
	}
	return api.JoinReply{}, fault.New(fault.Busy, "import token: site %s at %s refused every site number", token.Site, token.URL)
}

// reach connects to a token's site as the bearer of the token.
func (s *Service) reach(ctx context.Context, token bootstrap) (*nats.Conn, error) {
	key, err := token.key()
	if err != nil {
		return nil, fault.New(fault.Usage, "the token's key: %w", err)
	}
	options := append(s.dialer.With(key), nats.Name("tidemark join"), nats.Timeout(dialTime), nats.NoReconnect(), nats.RetryOnFailedConnect(false))
	nc, err := nats.Connect(token.URL, options...)
	for began := time.Now(); errors.Is(err, nats.ErrAuthorization) && time.Since(began) < newTokenTime; {
		select {
		case <-time.After(newTokenWait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		nc, err = nats.Connect(token.URL, options...)
	}
	if err != nil {
		return nil, peers.Refused(err, "the token: it was used, has expired or is void, or that site has another NATS now")
	}
	return nc, nil
}

func checkReply(token bootstrap, r api.JoinReply) error {
	switch {
	case r.UUID != token.UUID:
		return fmt.Errorf("another site (%.64q) answers at this address", r.UUID)
	case events.CheckName(r.Site) != nil, len(r.Numbers) > numbersMax, r.Number > events.MaxSiteNumber, !isKey(r.Key):
		return errors.New("its answer makes no sense")
	}
	return nil
}

// renumber gives the site a number that nobody known here or there has.
func (s *Service) renumber(ctx context.Context, taken []uint16) error {
	_, err := s.change(ctx, "number the site", events.StreamPools, func() (events.Fact, error) {
		who := s.identity()
		number, err := site.RandomNumber(append(s.numbers(""), taken...))
		if err != nil {
			return nil, err
		}
		s.log.Info("site number changed: a peer has the same", "former", who.Number, "number", number)
		return &events.SiteNumbered{Site: who.UUID, Name: who.Name, Number: number, At: now()}, nil
	})
	return err
}
