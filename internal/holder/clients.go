package holder

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/peers"
	"tidemark/internal/site"
	"tidemark/internal/tail"
)

// Clients knows who follows this site's journals and how far each has come: which
// follower is let in, and what may be trimmed.
type Clients struct {
	Peers     *peers.Peers
	positions *tail.Positions
	node      site.Node
	poolsRead chan struct{}
}

// NewClients returns a fold that knows nobody yet.
func NewClients(node site.Node) *Clients {
	return &Clients{Peers: peers.New(), positions: tail.NewPositions(), node: node, poolsRead: make(chan struct{})}
}

// Self is the name under which this node's own replicas keep their commit positions.
func (c *Clients) Self() string { return c.node.Site.Name + "." + c.node.Name }

// Follow keeps the folds of POOLS and POSITIONS up to date until ctx ends.
func (c *Clients) Follow(ctx context.Context, b *bus.Bus) error {
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error {
		return b.Fold(inner, events.StreamPools, func() { close(c.poolsRead) }, c.Peers.Evolve)
	})
	group.Go(func() error { return c.positions.Follow(inner, b) })
	return group.Wait()
}

// Known returns when everything that was said before is in the folds.
func (c *Clients) Known(ctx context.Context) error {
	for _, read := range []<-chan struct{}{c.poolsRead, c.positions.Known()} {
		select {
		case <-read:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Admit returns an error if a site may not follow the directories of a pool now.
func (c *Clients) Admit(pool, site string) error {
	if site == c.node.Site.UUID {
		return nil
	}
	return c.Peers.Check(pool, site)
}

// Needed returns the position below which nobody needs a directory's journal. A site that
// is no peer of the pool any more holds nothing, nor does the one that is primary: what it
// committed here is from before.
func (c *Clients) Needed(id events.DirectoryID, pool, primary string) events.Position {
	return c.positions.Needed(id, c.Self(), func(f events.PositionCommitted) bool {
		return f.Site == c.node.Site.UUID || f.Site != primary && c.Peers.Has(pool, f.Site)
	})
}

// Of returns what is known of a directory's clients.
func (c *Clients) Of(id events.DirectoryID) []events.PositionCommitted {
	return c.positions.Clients(id)
}

// Register makes a client of a directory's journal known before anything that it needs
// can be trimmed.
func (c *Clients) Register(ctx context.Context, b *bus.Bus, f events.PositionCommitted) error {
	f.State, f.Role, f.At = events.ClientConnected, events.Slave, events.InstantOf(time.Now())
	c.positions.Note(f)
	_, err := b.Publish(ctx, events.StreamPositions, &f)
	return err
}
