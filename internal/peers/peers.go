// Package peers knows which sites share each pool: a fold of the stream POOLS that
// services keep which talk to other sites.
package peers

import (
	"sync"

	"tidemark/events"
)

// Peers is the fold. Its methods may be called concurrently.
type Peers struct {
	mu sync.Mutex
	of map[string]map[string]events.PeerAdded // by pool, by the peer's UUID
}

// New returns an empty fold.
func New() *Peers { return &Peers{of: map[string]map[string]events.PeerAdded{}} }

// Evolve takes one fact of the stream.
func (p *Peers) Evolve(_ uint64, fact events.Fact) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch f := fact.(type) {
	case *events.PeerAdded:
		if p.of[f.Pool] == nil {
			p.of[f.Pool] = map[string]events.PeerAdded{}
		}
		p.of[f.Pool][f.Peer] = *f
	case *events.PeerRemoved:
		delete(p.of[f.Pool], f.Peer)
	case *events.PoolRemoved:
		delete(p.of, f.Pool)
	}
	return nil
}

// Receivable returns the peers of a pool that this site may receive from.
func (p *Peers) Receivable(pool string) []events.PeerAdded {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []events.PeerAdded
	for _, peer := range p.of[pool] {
		if peer.Direction != events.SendOnly && peer.URL != "" {
			list = append(list, peer)
		}
	}
	return list
}

// Has reports whether the site of that UUID is a peer of a pool.
func (p *Peers) Has(pool, site string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.of[pool][site]
	return ok
}
