package holder

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
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

// Of returns what is known of a directory's clients, by name.
func (c *Clients) Of(id events.DirectoryID) []events.PositionCommitted {
	return c.positions.Clients(id)
}

// Others returns the clients of a directory but this node's own copy, by name.
func (c *Clients) Others(id events.DirectoryID) []events.PositionCommitted {
	return slices.DeleteFunc(c.Of(id), func(f events.PositionCommitted) bool { return f.Client == c.Self() })
}

// Stranger reports whether a client is of a site that is no peer of the pool any more.
func (c *Clients) Stranger(pool string, f events.PositionCommitted) bool {
	return f.Site != c.node.Site.UUID && !c.Peers.Has(pool, f.Site)
}

// Disconnected names the clients that a directory's journal does not wait for any more.
func (c *Clients) Disconnected(id events.DirectoryID) []string { return c.positions.Disconnected(id) }

// Register makes a client of a directory's journal known before anything that it needs
// can be trimmed. [fault.Denied]: it calls itself this node's own copy, of which nobody else
// may speak.
func (c *Clients) Register(ctx context.Context, b *bus.Bus, f events.PositionCommitted) error {
	if f.Client == c.Self() {
		return fault.New(fault.Denied, "client %q is this node's own copy", f.Client)
	}
	release := c.positions.Hold(f.Directory, f.Client, f.Mark.Position)
	defer release()
	f.Role, f.Registered = events.Slave, true
	return c.publish(ctx, b, f, events.ClientConnected)
}

// Disconnect makes the journal of a directory stop waiting for a client, or for all but
// this node's own copy if name is empty, and returns whom that concerned: those that
// were disconnected already are left out. [fault.NotFound]: there is no such client.
// [fault.Usage]: it is this node's own copy.
func (c *Clients) Disconnect(ctx context.Context, b *bus.Bus, id events.DirectoryID, name string) ([]events.PositionCommitted, error) {
	if name == c.Self() {
		return nil, fault.New(fault.Usage, "client %q is the primary's own copy: its journal cannot do without it", name)
	}
	found, err := c.find(id, name)
	if err != nil {
		return nil, err
	}
	var done []events.PositionCommitted
	for _, f := range found {
		if f.State == events.ClientDisconnected {
			continue
		}
		f.Registered = false
		if err := c.publish(ctx, b, f, events.ClientDisconnected); err != nil {
			return done, err
		}
		done = append(done, f)
	}
	return done, nil
}

// Unregister makes a client one no more, until it is let in again. [fault.NotFound]:
// there is no such client.
func (c *Clients) Unregister(ctx context.Context, b *bus.Bus, id events.DirectoryID, name string) error {
	found, err := c.find(id, name)
	if err != nil {
		return err
	}
	for _, f := range found {
		f.Registered = false
		if err := c.publish(ctx, b, f, events.ClientRemoved); err != nil {
			return err
		}
	}
	return nil
}

// Overrule says again that clients are not connected which call themselves so: the
// stream keeps only the last word on each, and whoever reads it from the start must
// not find theirs.
func (c *Clients) Overrule(ctx context.Context, b *bus.Bus, id events.DirectoryID) error {
	for _, f := range c.positions.Overruled(id) {
		if err := c.publish(ctx, b, f, f.State); err != nil {
			return err
		}
	}
	return nil
}

// find returns the client of that name, or all others if it is empty.
func (c *Clients) find(id events.DirectoryID, name string) ([]events.PositionCommitted, error) {
	others := c.Others(id)
	if name == "" {
		if len(others) == 0 {
			return nil, fault.New(fault.NotFound, "the journal has no client but the primary's own copy")
		}
		return others, nil
	}
	for _, f := range others {
		if f.Client == name {
			return []events.PositionCommitted{f}, nil
		}
	}
	return nil, fault.New(fault.NotFound, "the journal has no client %q", name)
}

// publish says in which state a client is now.
func (c *Clients) publish(ctx context.Context, b *bus.Bus, f events.PositionCommitted, state events.ClientState) error {
	f.State, f.At = state, events.InstantOf(time.Now())
	f.Incarnation, f.Epoch = "", 0 // it is not the client who says so
	seq, err := b.Publish(ctx, events.StreamPositions, &f)
	if err != nil {
		return fmt.Errorf("client %s: %w", f.Client, err)
	}
	c.positions.Note(seq, f)
	return nil
}

// Gate is where followers of a directory are let in, whose journal is behind a tail.
type Gate struct {
	Service
	Tail *tail.Tail
}

// Register makes a follower known at a mark that the journal still continues, and no
// trim comes between. [tail.ErrTrimmed]: the journal does not reach back that far; the
// follower is not waited for.
func (g Gate) Register(ctx context.Context, f events.PositionCommitted) error {
	return g.Tail.BetweenTrims(ctx, func(begins events.Position) error {
		if begins > f.Mark.Position {
			return fault.New(fault.NotReady, "the journal begins at %v: %w: %v", begins, tail.ErrTrimmed, f.Mark.Position)
		}
		return g.Service.Register(ctx, f)
	})
}
