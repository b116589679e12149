package holder

import (
	"context"
	"fmt"
	"maps"
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
	holds   map[uint64]time.Time // those in force, by name, and until when
	release func()               // of the copy's own hold, while there are any
}

// NewCompaction returns the compaction of a copy, which does nothing until it runs, and
// while the copy is not ready: not before it has replayed what it had applied.
func NewCompaction(c Compactable, ready func() bool) *Compaction {
	return &Compaction{copy: c, ready: ready, holds: map[uint64]time.Time{}}
}

// Run takes steps until ctx ends or one fails.
func (c *Compaction) Run(ctx context.Context) error {
	defer c.end(func(uint64, time.Time) bool { return true })
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
		c.end(func(_ uint64, until time.Time) bool { return started.After(until) })
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

// Hold keeps layers from being merged, and names what keeps them so, until that is let go or
// nobody has renewed it for holdAge.
func (c *Compaction) Hold() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.holds) == 0 {
		c.release = c.copy.HoldCompaction()
	}
	hold := rand.Uint64() | 1
	c.holds[hold] = time.Now().Add(holdAge)
	return hold
}

// Renew prolongs a hold. One that has ended cannot be: [fault.NotReady].
func (c *Compaction) Renew(hold uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, held := c.holds[hold]; !held {
		return fault.New(fault.NotReady, "the layers may have changed since the copying began; begin it again")
	}
	c.holds[hold] = time.Now().Add(holdAge)
	return nil
}

// LetGo ends a hold; one that has ended stays so.
func (c *Compaction) LetGo(hold uint64) {
	c.end(func(name uint64, _ time.Time) bool { return name == hold })
}

// end ends the holds that which selects.
func (c *Compaction) end(which func(name uint64, until time.Time) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.holds)
	maps.DeleteFunc(c.holds, which)
	if before > 0 && len(c.holds) == 0 {
		c.release()
	}
}
