package tail

import (
	"context"
	"sync"

	"tidemark/events"
	"tidemark/internal/bus"
)

// Positions is what the clients of this site's journals have committed: a fold of the
// stream POSITIONS.
type Positions struct {
	mu    sync.Mutex
	known chan struct{} // closed when the stream was read to its end once
	of    map[events.DirectoryID]map[string]events.PositionCommitted
}

// Everything is the position below which all of a log may be trimmed: nobody needs it.
const Everything = ^events.Position(0)

// NewPositions returns an empty fold.
func NewPositions() *Positions {
	return &Positions{known: make(chan struct{}), of: map[events.DirectoryID]map[string]events.PositionCommitted{}}
}

// Known is closed when everything that clients said before is in the fold.
func (p *Positions) Known() <-chan struct{} { return p.known }

// Follow keeps the fold up to date until ctx ends.
func (p *Positions) Follow(ctx context.Context, b *bus.Bus) error {
	return b.Watch(ctx, events.StreamPositions, "tidemark.position.>", func() { close(p.known) }, func(f events.Fact) error {
		if committed, ok := f.(*events.PositionCommitted); ok {
			p.Note(*committed)
		}
		return nil
	})
}

// Note takes a client's newest word.
func (p *Positions) Note(f events.PositionCommitted) {
	p.mu.Lock()
	defer p.mu.Unlock()
	clients := p.of[f.Directory]
	if clients == nil {
		clients = map[string]events.PositionCommitted{}
		p.of[f.Directory] = clients
	}
	clients[f.Client] = f
}

// Needed returns the least position that a client of a directory's journal has
// committed, among those that counts says count. Disconnected clients do not, nor does
// the owner, whose checkpoint the trimmer knows. Without clients nothing is needed; until
// it is known which there are, everything is.
func (p *Positions) Needed(id events.DirectoryID, owner string, counts func(events.PositionCommitted) bool) events.Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.known:
	default:
		return 0
	}
	least := Everything
	for client, f := range p.of[id] {
		if client != owner && f.State != events.ClientDisconnected && counts(f) {
			least = min(least, f.Mark.Position)
		}
	}
	return least
}

// Clients returns what is known of a directory's clients.
func (p *Positions) Clients(id events.DirectoryID) []events.PositionCommitted {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]events.PositionCommitted, 0, len(p.of[id]))
	for _, f := range p.of[id] {
		all = append(all, f)
	}
	return all
}
