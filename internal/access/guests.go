package access

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nkeys"

	"tidemark/events"
)

// joinedTime is how long the user of a token outlives its use: the answer that says so goes
// over its connection, and may be lost and asked for again. What it may do meanwhile is no more
// than that: the token lets no other site in.
const joinedTime = 10 * time.Second

// Guests is who may come in from outside: peers and the bearers of open tokens. It is a fold of
// the streams POOLS and DIRECTORIES, which may interleave in any way.
type Guests struct {
	site        string
	pools       map[string]*guestPool
	directories map[events.DirectoryID]events.DirectoryName
}

type guestPool struct {
	shared bool // its mirroring is on
	tokens map[string]guestToken
	peers  map[string]events.PeerAdded
}

type guestToken struct {
	key     string
	expires events.Instant
	bearer  string
	used    events.Instant
	void    bool
}

// NewGuests returns the fold of empty streams.
func NewGuests(site string) *Guests {
	return &Guests{site: site, pools: map[string]*guestPool{}, directories: map[events.DirectoryID]events.DirectoryName{}}
}

// Evolve adds one fact. Those that make no sense, or name no valid key, change nothing.
func (g *Guests) Evolve(fact events.Fact) {
	switch f := fact.(type) {
	case *events.PoolCreated:
		if g.pools[f.Pool] == nil && events.CheckName(f.Pool) == nil {
			g.pools[f.Pool] = &guestPool{tokens: map[string]guestToken{}, peers: map[string]events.PeerAdded{}}
		}
	case *events.PoolRemoved:
		delete(g.pools, f.Pool)
	case *events.DirectoryCreated:
		g.directories[f.Directory] = events.DirectoryName{Pool: f.Pool, Path: f.Path}
	case *events.DirectoryTracked:
		g.directories[f.Directory] = events.DirectoryName{Pool: f.Pool, Path: f.Path}
	case *events.DirectoryForgotten:
		delete(g.directories, f.Directory)
	default:
		g.evolvePeers(fact)
	}
}

func (g *Guests) evolvePeers(fact events.Fact) {
	change := func(pool string, f func(*guestPool)) {
		if p := g.pools[pool]; p != nil {
			f(p)
		}
	}
	switch f := fact.(type) {
	case *events.MirrorEnabled:
		change(f.Pool, func(p *guestPool) { p.shared = true })
	case *events.MirrorDisabled:
		change(f.Pool, func(p *guestPool) { p.shared = false })
	case *events.TokenCreated:
		change(f.Pool, func(p *guestPool) { p.tokens[f.Token] = guestToken{key: f.Key, expires: f.Expires} })
	case *events.PeerAdded:
		change(f.Pool, func(p *guestPool) { p.added(f) })
	case *events.PeerRemoved:
		change(f.Pool, func(p *guestPool) { p.removed(f.Peer) })
	}
}

func (p *guestPool) added(f *events.PeerAdded) {
	p.peers[f.Peer] = *f
	if t, ok := p.tokens[f.Token]; ok && t.bearer == "" {
		t.bearer, t.used = f.Peer, f.At
		p.tokens[f.Token] = t
	}
}

func (p *guestPool) removed(peer string) {
	delete(p.peers, peer)
	for id, t := range p.tokens {
		if t.bearer == peer {
			t.void = true
			p.tokens[id] = t
		}
	}
}

// until returns when the token's user goes; zero: it is gone for good.
func (t guestToken) until() events.Instant {
	switch {
	case t.void || !nkeys.IsValidPublicUserKey(t.key):
		return 0
	case t.bearer != "":
		return min(t.expires, t.used+events.Instant(joinedTime))
	}
	return t.expires
}

// Users returns who is let in at a moment, by key, and the next moment at which that changes by
// itself; zero: it does not.
func (g *Guests) Users(now events.Instant) (users []User, next events.Instant) {
	grants, parts := map[string][]Grant{}, map[string]map[string]Grant{}
	for name, p := range g.pools {
		for _, peer := range p.peers {
			if nkeys.IsValidPublicUserKey(peer.Key) && peer.Direction != events.ReceiveOnly {
				grants[peer.Key] = append(grants[peer.Key], g.peer(name, p))
				parts[peer.Key] = g.parts(parts[peer.Key], peer.Key, name, p)
			}
		}
		for _, t := range p.tokens {
			until := t.until()
			if until <= now {
				continue
			}
			grants[t.key] = append(grants[t.key], Joining(g.site, name))
			if next == 0 || until < next {
				next = until
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(grants)) {
		all := grants[key]
		slices.SortFunc(all, func(a, b Grant) int { return cmp.Compare(a.Name, b.Name) })
		u := Join(all[0].Name, all...).User(key)
		u.Parts = parts[key]
		users = append(users, u)
	}
	return users, next
}

// parts adds what a peer of a pool may do with each directory alone.
func (g *Guests) parts(parts map[string]Grant, key, pool string, p *guestPool) map[string]Grant {
	if parts == nil {
		parts = map[string]Grant{}
	}
	parts[anyPart] = Join(pool, parts[anyPart], g.share(pool, p, nil)).User(key).Grant
	for id, name := range g.directories {
		if name.Pool == pool {
			parts[name.String()] = g.share(pool, p, []Directory{{id, name}}).User(key).Grant
		}
	}
	return parts
}

// peer is the grant of a pool's peers.
func (g *Guests) peer(pool string, p *guestPool) Grant {
	var directories []Directory
	for id, name := range g.directories {
		if name.Pool == pool {
			directories = append(directories, Directory{id, name})
		}
	}
	return g.share(pool, p, directories)
}

// share is what a pool's peers may do with directories. While the pool is not mirrored they may
// ask, and are told so, but copy and read nothing.
func (g *Guests) share(pool string, p *guestPool, directories []Directory) Grant {
	if !p.shared {
		return asking(pool, directories)
	}
	return Peer(g.site, pool, directories...)
}
