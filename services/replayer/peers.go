package replayer

import (
	"sync"

	"tidemark/events"
)

// peers knows which sites share each pool: a fold of the stream POOLS.
type peers struct {
	mu sync.Mutex
	of map[string]map[string]events.PeerAdded // by pool, by the peer's UUID
}

func newPeers() *peers { return &peers{of: map[string]map[string]events.PeerAdded{}} }

// evolve takes one fact of the stream.
func (p *peers) evolve(_ uint64, fact events.Fact) error {
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

// receivable returns the peers of a pool that this site may receive from.
func (p *peers) receivable(pool string) []events.PeerAdded {
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
