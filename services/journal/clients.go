package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/events"
	"tidemark/internal/tail"
)

// clientsAge is how often the journal looks after its clients: a fast writer fills a
// small journal within a second.
const clientsAge = 100 * time.Millisecond

// clientCare looks after the clients of a directory's journal while this node owns it:
// it gives an alarm about those that fall behind, and stops waiting for those that
// fall too far. The owner's own copy is not among them.
type clientCare struct {
	life   *life
	limits LagLimits
	now    func() time.Time
	// alarmed are the clients that an alarm was given about, by name; what is not in it was
	// not seen yet.
	alarmed map[string]bool
	// gone are those that the journal does not wait for.
	gone map[string]bool
	// over is since when clients are behind by too many bytes, by name.
	over map[string]time.Time
}

func newClientCare(l *life) *clientCare {
	deps := l.directory.service.deps
	return &clientCare{
		life: l, limits: deps.Lag.For(deps.JournalBytesMax), now: time.Now,
		alarmed: map[string]bool{}, gone: map[string]bool{}, over: map[string]time.Time{},
	}
}

// run looks now and then until ctx ends. What fails is tried again.
func (c *clientCare) run(ctx context.Context) error {
	again := time.NewTicker(clientsAge)
	defer again.Stop()
	for {
		if err := c.look(ctx); err != nil && ctx.Err() == nil {
			c.life.directory.log.Warn("clients of the journal not looked after", "error", err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// look looks at every client once.
func (c *clientCare) look(ctx context.Context) error {
	d := c.life.directory
	clients, bus := d.service.clients, d.service.deps.Bus
	if err := clients.Overrule(ctx, bus, d.id); err != nil {
		return err
	}
	var all error
	for _, f := range clients.Others(d.id) {
		if clients.Stranger(d.name.Pool, f) {
			all = errors.Join(all, clients.Unregister(ctx, bus, d.id, f.Client))
			delete(c.alarmed, f.Client)
			delete(c.gone, f.Client)
			continue
		}
		c.recall(ctx, f.Client)
		c.heard(f)
		lag, err := c.lag(ctx, f)
		if err != nil {
			all = errors.Join(all, fmt.Errorf("client %s: %w", f.Client, err))
			continue
		}
		turn, why := c.limits.decide(lag, c.alarmed[f.Client])
		all = errors.Join(all, c.turn(ctx, f, turn, why))
	}
	return all
}

// recall learns, of a client that is seen for the first time, what listeners were told of it
// by an earlier owner.
func (c *clientCare) recall(ctx context.Context, client string) {
	if _, seen := c.alarmed[client]; seen {
		return
	}
	d := c.life.directory
	c.alarmed[client] = d.lasts(ctx, client, events.Lagging)
	c.gone[client] = d.lasts(ctx, client, events.Disconnected)
}

// heard notes that a client was let in again.
func (c *clientCare) heard(f events.PositionCommitted) {
	gone := f.State == events.ClientDisconnected
	if c.gone[f.Client] && !gone {
		c.life.directory.noteWith(f.Client, events.Reconnected, f.Mark, "")
	}
	c.gone[f.Client] = gone
}

// turn does what was decided about a client.
func (c *clientCare) turn(ctx context.Context, f events.PositionCommitted, turn lagTurn, why string) error {
	d := c.life.directory
	switch turn {
	case lagUnchanged:
	case lagCalm:
		if !c.gone[f.Client] { // one that is not waited for is not behind either
			c.alarmed[f.Client] = false
			d.noteWith(f.Client, events.CaughtUp, f.Mark, "")
		}
	case lagAlarm:
		c.alarmed[f.Client] = true
		d.log.Warn("a client of the journal lags", "client", f.Client, "detail", why)
		d.noteWith(f.Client, events.Lagging, f.Mark, why)
	case lagDisconnect:
		if _, err := d.service.clients.Disconnect(ctx, d.service.deps.Bus, d.id, f.Client); err != nil {
			return err
		}
		d.log.Error("the journal does not wait for a client any more", "client", f.Client, "detail", why)
		d.noteWith(f.Client, events.Disconnected, f.Mark, why)
	}
	return nil
}

// lag measures how far a client is behind.
func (c *clientCare) lag(ctx context.Context, f events.PositionCommitted) (lagged, error) {
	head, now := c.life.tail.Marks().Logged, c.now()
	lag := lagged{PositionCommitted: f}
	if f.State != events.ClientDisconnected && f.Mark.Position < head.Position {
		lag.bytes = head.Bytes - min(head.Bytes, f.Mark.Bytes)
	}
	if !over(lag.bytes, c.limits.Bytes, 1) {
		delete(c.over, f.Client)
	} else if since, ok := c.over[f.Client]; ok {
		lag.over = now.Sub(since)
	} else {
		c.over[f.Client] = now
	}
	if lag.bytes == 0 {
		return lag, nil
	}
	return lag, c.measureIdle(ctx, &lag, events.InstantOf(now))
}

// measureIdle says how long a client that is behind has committed nothing.
func (c *clientCare) measureIdle(ctx context.Context, lag *lagged, now events.Instant) error {
	idle := now.Sub(lag.At)
	if !over(idle, c.limits.Age, calmPart) {
		return nil // not worth reading the journal for
	}
	// A client that stood at the head has had something to commit only since there was.
	lacks, err := tail.FirstAfter(ctx, c.life.log, lag.Mark)
	switch {
	case errors.Is(err, tail.ErrTrimmed):
		lag.cut = true
	case errors.Is(err, tail.ErrDiverged):
		lag.idle = idle
	case err != nil:
		return err
	default:
		lag.idle = min(idle, now.Sub(lacks.Ends().Time))
	}
	return nil
}
