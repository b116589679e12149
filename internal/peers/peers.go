// Package peers knows which sites share each pool: a fold of the stream POOLS that
// services keep which talk to other sites.
package peers

import (
	"sync"

	"tidemark/events"
	"tidemark/internal/fault"
)

// Peers is the fold. Its methods may be called concurrently.
type Peers struct {
	mu      sync.Mutex
	of      map[string]map[string]events.PeerAdded // by pool, by the peer's UUID
	enabled map[string]bool                        // pools that may be mirrored
}

// New returns an empty fold.
func New() *Peers {
	return &Peers{of: map[string]map[string]events.PeerAdded{}, enabled: map[string]bool{}}
}

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
	case *events.MirrorEnabled:
		p.enabled[f.Pool] = true
	case *events.MirrorDisabled:
		delete(p.enabled, f.Pool)
	case *events.PoolRemoved:
		delete(p.of, f.Pool)
		delete(p.enabled, f.Pool)
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

// Check returns an error if the site of that UUID may not follow a pool's directories
// here: it is no peer, or the pool is not mirrored.
func (p *Peers) Check(pool, site string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.of[pool][site]; !ok {
		return fault.New(fault.Denied, "this site is no peer of pool %s there", pool)
	}
	if !p.enabled[pool] {
		return fault.New(fault.NotReady, "mirroring of pool %s is disabled there", pool)
	}
	return nil
}

// Enabled reports whether mirroring of a pool is on here.
func (p *Peers) Enabled(pool string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.enabled[pool]
}

// Has reports whether the site of that UUID is a peer of a pool.
func (p *Peers) Has(pool, site string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.of[pool][site]
	return ok
}
