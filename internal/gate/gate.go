// Package gate keeps the users of a running NATS server up to date with the site's log: peers
// come in while they are peers, and the bearers of tokens until those were used, expire or
// are void. Who may do what is decided in package access.
package gate

import (
	"context"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/access"
	"tidemark/internal/bus"
)

// Server is a NATS server whose users can be changed while it runs.
type Server interface {
	SetUsers(users []access.User) error
}

// settleTime is how long the server is left in peace after it was told: a pool's directories
// are often made one after the other. What comes after a while is told at once.
const (
	settleTime = 20 * time.Millisecond
	// settleShare is how many times as long it is left in peace as a change took: a peer of
	// thousands of directories has a grant that takes a while.
	settleShare = 9
	settleMax   = 5 * time.Second
)

// retryTime is how long is waited after the server did not take its users.
const retryTime = time.Second

// Keep lets the site's own users in at once, and its guests as the log says, until ctx ends.
// Only the first change can make it return an error.
func Keep(ctx context.Context, b *bus.Bus, server Server, site string, own []access.User, log *slog.Logger) error {
	g := &gate{server: server, own: own, log: log, guests: access.NewGuests(site), changed: make(chan struct{}, 1)}
	if err := server.SetUsers(own); err != nil {
		return err
	}
	var known sync.WaitGroup
	group, inner := errgroup.WithContext(ctx)
	for _, stream := range []string{events.StreamPools, events.StreamDirectories} {
		known.Add(1)
		group.Go(func() error { return b.Fold(inner, stream, known.Done, g.evolve) })
	}
	group.Go(func() error { return g.run(inner, &known) })
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

type gate struct {
	server  Server
	own     []access.User
	log     *slog.Logger
	changed chan struct{}
	users   []access.User // that the server has, besides its own
	told    bool          // the server was told of its guests, or that there are none

	mu     sync.Mutex
	guests *access.Guests
}

func (g *gate) evolve(_ uint64, fact events.Fact) error {
	g.mu.Lock()
	g.guests.Evolve(fact)
	g.mu.Unlock()
	select {
	case g.changed <- struct{}{}:
	default: // it looks anyway
	}
	return nil
}

// run waits until both streams were read to their ends: half of what is known would close
// the connections of those who are let in by the other half.
func (g *gate) run(ctx context.Context, known *sync.WaitGroup) error {
	read := make(chan struct{})
	go func() { known.Wait(); close(read) }() // ends with the process if a stream is never read
	select {
	case <-read:
	case <-ctx.Done():
		return nil
	}
	for {
		began := time.Now()
		wait := g.update()
		settle(ctx, min(max(settleTime, settleShare*time.Since(began)), settleMax))
		timer := time.NewTimer(wait)
		select {
		case <-g.changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// forever is longer than any token lives.
const forever = 24 * time.Hour

// update tells the server who is let in now, and returns how long that holds at most.
func (g *gate) update() time.Duration {
	now := time.Now()
	g.mu.Lock()
	users, next := g.guests.Users(events.InstantOf(now))
	g.mu.Unlock()
	if !g.told || !reflect.DeepEqual(users, g.users) {
		if err := g.server.SetUsers(g.with(users)); err != nil {
			g.log.Error("the users of the NATS server were not changed: peers may not come in, or who was removed may", "error", err)
			return retryTime
		}
		g.log.Info("the users of the NATS server were changed", "guests", len(users))
		g.users, g.told = users, true
	}
	if next == 0 {
		return forever
	}
	return min(max(next.Time().Sub(now), 0), forever)
}

// with adds guests to the site's own users. A guest that shows one of their keys is not let
// in by it: it would be let do what it is not.
func (g *gate) with(guests []access.User) []access.User {
	taken := map[string]bool{}
	all := append([]access.User{}, g.own...)
	for _, u := range all {
		taken[u.Key] = true
	}
	for _, u := range guests {
		if !taken[u.Key] {
			all = append(all, u)
		}
	}
	return all
}

func settle(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
