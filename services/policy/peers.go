package policy

import (
	"context"
	"slices"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/site"
)

const (
	tokenLifeDefault = 24 * time.Hour
	tokenLifeMax     = 30 * 24 * time.Hour
)

// peerToken hands out a token, and turns mirroring of the pool on if it was off.
func (s *Service) peerToken(ctx context.Context, r api.PeerTokenRequest) (api.PeerTokenReply, error) {
	life := r.Expires
	if life == 0 {
		life = tokenLifeDefault
	}
	if life < 0 || life > tokenLifeMax {
		return api.PeerTokenReply{}, fault.New(fault.Usage, "a token lives more than 0 and at most %s, not %s", tokenLifeMax, life)
	}
	if err := checkURL(s.node.URL); err != nil {
		return api.PeerTokenReply{}, fault.New(fault.NotReady, "this site cannot be reached by a peer: %w", err)
	}
	id, err := site.NewID()
	if err != nil {
		return api.PeerTokenReply{}, err
	}
	text, hash, err := newSecret()
	if err != nil {
		return api.PeerTokenReply{}, err
	}
	public, seed, err := s.newEntry()
	if err != nil {
		return api.PeerTokenReply{}, err
	}
	expires := events.InstantOf(time.Now().Add(life))
	enabled, err := s.switchOn(ctx, r.Pool)
	if err != nil {
		return api.PeerTokenReply{}, err
	}
	var who SiteIdentity
	err = s.changePool(ctx, "create a token for", r.Pool, func(*Pool) (events.Fact, error) {
		who = s.identity()
		return &events.TokenCreated{Pool: r.Pool, Token: id, SecretHash: hash, Expires: expires, At: now(), Key: public}, nil
	})
	if err != nil {
		return api.PeerTokenReply{}, err
	}
	token, err := bootstrap{
		Version: tokenVersion, Pool: r.Pool, Site: who.Name, UUID: who.UUID, URL: s.node.URL,
		Token: id, Secret: text, Expires: expires, Seed: seed,
	}.encode()
	return api.PeerTokenReply{Token: token, Expires: expires, Enabled: enabled}, err
}

// switchOn turns mirroring of a pool on, and reports whether it was off.
func (s *Service) switchOn(ctx context.Context, pool string) (enabled bool, err error) {
	err = s.changePool(ctx, "enable mirroring of", pool, func(p *Pool) (events.Fact, error) {
		enabled = !p.Mirroring
		if p.Mirroring {
			return nil, nil
		}
		return &events.MirrorEnabled{Pool: pool, At: now()}, nil
	})
	return enabled, err
}

// peerJoin lets another site in that comes with a token of ours.
func (s *Service) peerJoin(ctx context.Context, r api.JoinRequest) (api.JoinReply, error) {
	if err := checkJoin(r); err != nil {
		return api.JoinReply{}, err
	}
	var reply api.JoinReply
	_, err := s.change(ctx, "let site "+r.Site+" in", events.StreamPools, func() (events.Fact, error) {
		if err := s.admit(r); err != nil {
			return nil, err
		}
		if r.Key == "" && s.node.Auth {
			return nil, fault.New(fault.Denied, "this site's NATS lets only users in, and the joining site has no key: start it with --site-key")
		}
		who := s.identity()
		if r.UUID == who.UUID {
			return nil, fault.New(fault.Busy, "a site cannot be its own peer")
		}
		if err := s.checkPeerName(r.Pool, s.state.Pools[r.Pool], r.UUID, r.Site); err != nil {
			return nil, err
		}
		numbers := s.numbers(r.UUID)
		reply = api.JoinReply{
			Site: who.Name, UUID: who.UUID, Number: who.Number, Numbers: numbers,
			Taken: r.Number != 0 && slices.Contains(numbers, r.Number), Key: s.dialer.Public(),
		}
		if reply.Taken {
			return nil, nil
		}
		added := &events.PeerAdded{
			Pool: r.Pool, Peer: r.UUID, Site: r.Site, URL: r.URL, Direction: opposite(r.Direction),
			Number: r.Number, Token: r.Token, At: now(), Key: r.Key, Auth: r.Auth,
		}
		if known, ok := s.state.Pools[r.Pool].Peers[r.UUID]; ok {
			known.At = added.At
			if known == *added {
				return nil, nil // it asks again: the answer was lost
			}
		}
		return added, nil
	})
	return reply, err
}

func checkJoin(r api.JoinRequest) error {
	if events.CheckName(r.Site) != nil || !isID(r.UUID) || r.Number > events.MaxSiteNumber {
		return fault.New(fault.Usage, "the joining site does not say who it is")
	}
	if !isKey(r.Key) {
		return fault.New(fault.Usage, "the joining site shows a key that is none")
	}
	switch r.Direction {
	case events.ReceiveOnly:
		if r.URL != "" {
			return fault.New(fault.Usage, "a peer that only receives has no address")
		}
	case events.ReceiveAndSend:
		if err := checkURL(r.URL); err != nil {
			return fault.New(fault.Usage, "the joining site cannot be reached: %w", err)
		}
	default:
		return badDirection(r.Direction)
	}
	return nil
}

func badDirection(d events.Direction) error {
	return fault.New(fault.Usage, "direction %.20q is neither %s nor %s", string(d), events.ReceiveAndSend, events.ReceiveOnly)
}

// admit checks a token. Whatever is wrong with it, the answer is the same: it must not
// help to guess. Only who knows its secret is told that it expired or was used.
func (s *Service) admit(r api.JoinRequest) error {
	var token Token
	if p := s.state.Pools[r.Pool]; p != nil {
		token = p.Tokens[r.Token]
	}
	if !token.opens(r.Secret) {
		s.metrics.refused.Inc()
		return fault.New(fault.Denied, "the token is not valid for the pool %q", r.Pool)
	}
	var why string
	switch {
	case token.Expires <= now():
		why = "the token has expired: create a new one"
	case token.Bearer != "" && token.Bearer != r.UUID:
		why = "the token was used by another site: create one for each site"
	case token.Void:
		why = "the token was used up: its peer was removed; create a new one"
	default:
		return nil
	}
	s.metrics.refused.Inc()
	return fault.New(fault.Denied, "%s", why)
}

// numbers returns the site numbers that are taken as far as known here: ours and our
// peers', except that of one peer.
func (s *Service) numbers(except string) []uint16 {
	taken := []uint16{s.identity().Number}
	for _, p := range s.state.Pools {
		for _, peer := range p.Peers {
			if peer.Peer != except && peer.Number != 0 {
				taken = append(taken, peer.Number)
			}
		}
	}
	slices.Sort(taken)
	return slices.Compact(taken)
}

// peerRemove forgets a peer, here only: it may be gone for ever.
func (s *Service) peerRemove(ctx context.Context, r api.PeerRemoveRequest) (api.Nothing, error) {
	return api.Nothing{}, s.changePool(ctx, "remove a peer of", r.Pool, func(p *Pool) (events.Fact, error) {
		found := ""
		for uuid, peer := range p.Peers {
			if uuid == r.Peer {
				found = uuid
				break
			}
			if peer.Site != r.Peer {
				continue
			}
			if found != "" {
				return nil, fault.New(fault.Usage, "more than one peer of the pool %q is named %q: give its UUID", r.Pool, r.Peer)
			}
			found = uuid
		}
		if found == "" {
			return nil, fault.New(fault.NotFound, "the pool %q has no peer %q", r.Pool, r.Peer)
		}
		return &events.PeerRemoved{Pool: r.Pool, Peer: found, At: now()}, nil
	})
}

// opposite is a direction as the other end of it says it.
func opposite(d events.Direction) events.Direction {
	if d == events.ReceiveOnly {
		return events.SendOnly
	}
	return d
}
