package holder

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"tidemark/internal/fault"
)

const (
	// compactionAge is how often a copy is looked at that had nothing to give back.
	compactionAge = time.Second
	// compactionRest is how much longer than a step lasted the next one waits: the disk
	// belongs to the writers.
	compactionRest = 3
	// holdAge is how long a follower that copies objects may ask for nothing before
	// compaction goes on without it.
	holdAge = 60 * time.Second
)

// Compactable is a [*replica.Replica], as far as its space is concerned.
type Compactable interface {
	Compact(ctx context.Context) (more bool, err error)
	HoldCompaction() (release func())
}

// Compaction gives back the space that a copy needs no more, step by step, but not while a
// follower copies its layers: that would have to begin again.
type Compaction struct {
	copy  Compactable
	ready func() bool

	mu      sync.Mutex
	hold    uint64 // names the hold that is in force; zero: none
	until   time.Time
	release func()
}

// NewCompaction returns the compaction of a copy, which does nothing until it runs, and
// while the copy is not ready: not before it has replayed what it had applied.
func NewCompaction(c Compactable, ready func() bool) *Compaction {
	return &Compaction{copy: c, ready: ready}
}

// Run takes steps until ctx ends or one fails.
func (c *Compaction) Run(ctx context.Context) error {
	defer c.let(time.Time{})
	for rest := time.Duration(0); ; {
		timer := time.NewTimer(rest)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		rest = compactionAge
		started := time.Now()
		c.let(started)
		if !c.ready() {
			continue
		}
		more, err := c.copy.Compact(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("compact: %w", err)
		case more:
			rest = compactionRest * time.Since(started)
		}
	}
}

// Hold keeps layers from being merged until nobody has asked for [Compaction.Renew] for
// holdAge, and names what is kept so.
func (c *Compaction) Hold() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hold == 0 {
		c.hold, c.release = rand.Uint64()|1, c.copy.HoldCompaction()
	}
	c.until = time.Now().Add(holdAge)
	return c.hold
}

// Renew prolongs a hold. One that has ended cannot be: [fault.NotReady].
func (c *Compaction) Renew(hold uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if hold == 0 || hold != c.hold {
		return fault.New(fault.NotReady, "the layers may have changed since the copying began; begin it again")
	}
	c.until = time.Now().Add(holdAge)
	return nil
}

// let ends a hold whose time is up at a moment, or any if that is zero.
func (c *Compaction) let(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hold != 0 && (now.IsZero() || now.After(c.until)) {
		c.release()
		c.hold, c.release = 0, nil
	}
}
