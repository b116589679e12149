package tail

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"tidemark/events"
	"tidemark/internal/bus"
)

// Positions is what the clients of this site's journals have committed: a fold of the
// stream POSITIONS. What it says holds for clients that count; see [Positions.Needed].
type Positions struct {
	mu    sync.Mutex
	known chan struct{} // closed when the stream was read to its end once
	of    map[events.DirectoryID]map[string]*client
}

// client is the newest word about one client of a directory's journal.
type client struct {
	fact events.PositionCommitted
	seq  uint64 // of fact in the stream; zero: nothing was said yet
	// overruled says that the client's own word is that it is connected, which it is
	// not: the stream should say so again, for whoever folds it from the start.
	overruled bool
	// held counts those who let the client in just now, from what position on.
	held  int
	since events.Position
}

// Everything is the position below which all of a log may be trimmed: nobody needs it.
const Everything = ^events.Position(0)

// NewPositions returns an empty fold.
func NewPositions() *Positions {
	return &Positions{known: make(chan struct{}), of: map[events.DirectoryID]map[string]*client{}}
}

// Known is closed when everything that clients said before is in the fold.
func (p *Positions) Known() <-chan struct{} { return p.known }

// Follow keeps the fold up to date until ctx ends.
func (p *Positions) Follow(ctx context.Context, b *bus.Bus) error {
	return b.Watch(ctx, events.StreamPositions, "tidemark.position.>", func() { close(p.known) }, func(seq uint64, f events.Fact) error {
		if committed, ok := f.(*events.PositionCommitted); ok {
			p.Note(seq, *committed)
		}
		return nil
	})
}

// Note takes what the stream says of a client at a sequence. Words that come late, after
// a newer one, change nothing.
//
// A client that was disconnected or removed stays so, whatever it says itself, until
// the owner of the directory lets it in again.
func (p *Positions) Note(seq uint64, f events.PositionCommitted) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.client(f.Directory, f.Client)
	if seq <= c.seq {
		return
	}
	c.seq, c.overruled = seq, false
	if was := c.fact.State; stays(was, f) {
		f.State, c.overruled = was, true
	}
	c.fact = f
}

// stays reports whether a client's state outlasts a word that says another.
func stays(was events.ClientState, f events.PositionCommitted) bool {
	switch {
	case f.Registered || f.State == was:
		return false
	case was == events.ClientDisconnected:
		return f.State != events.ClientRemoved
	}
	return was == events.ClientRemoved
}

// client is called under the lock.
func (p *Positions) client(id events.DirectoryID, name string) *client {
	if p.of[id] == nil {
		p.of[id] = map[string]*client{}
	}
	if p.of[id][name] == nil {
		p.of[id][name] = &client{}
	}
	return p.of[id][name]
}

// Hold counts a client as one that needs everything behind a position, whatever is
// said of it, until release is called: it is being let in.
func (p *Positions) Hold(id events.DirectoryID, name string, since events.Position) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.client(id, name)
	if c.held == 0 || since < c.since {
		c.since = since
	}
	c.held++
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		c.held--
	})
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
	for name, c := range p.of[id] {
		if c.held > 0 {
			least = min(least, c.since)
		}
		if name != owner && c.waitedFor() && counts(c.fact) {
			least = min(least, c.fact.Mark.Position)
		}
	}
	return least
}

// waitedFor reports whether the journal waits for the client.
func (c *client) waitedFor() bool {
	return c.seq > 0 && c.fact.State != events.ClientDisconnected && c.fact.State != events.ClientRemoved
}

// Clients returns what is known of a directory's clients, by name. Those that were
// removed are none.
func (p *Positions) Clients(id events.DirectoryID) []events.PositionCommitted {
	return p.list(id, func(c *client) bool { return c.fact.State != events.ClientRemoved })
}

// Disconnected returns the names of a directory's clients that the journal does not wait
// for any more, sorted.
func (p *Positions) Disconnected(id events.DirectoryID) []string {
	var names []string
	for _, f := range p.list(id, func(c *client) bool { return c.fact.State == events.ClientDisconnected }) {
		names = append(names, f.Client)
	}
	return names
}

// Overruled returns what the stream should say again of a directory's clients: they call
// themselves connected and are not.
func (p *Positions) Overruled(id events.DirectoryID) []events.PositionCommitted {
	return p.list(id, func(c *client) bool { return c.overruled })
}

func (p *Positions) list(id events.DirectoryID, wanted func(*client) bool) []events.PositionCommitted {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []events.PositionCommitted
	for _, c := range p.of[id] {
		if c.seq > 0 && wanted(c) {
			all = append(all, c.fact)
		}
	}
	slices.SortFunc(all, func(a, b events.PositionCommitted) int { return cmp.Compare(a.Client, b.Client) })
	return all
}
