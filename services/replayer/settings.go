package replayer

import (
	"context"
	"sync"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
)

// Settings is how a directory is followed, as [events.DirectoryConfigured] has it.
type Settings struct {
	Delay     time.Duration // zero: nothing is held back
	TargetRPO time.Duration // zero: any lag will do
	SyncRate  uint64        // bytes per second; zero: no bound
}

// configured is a fold of the stream DIRECTORIES: the settings of every directory.
type configured struct {
	known chan struct{} // closed when the stream was read to its end once

	mu      sync.Mutex
	of      map[events.DirectoryID]Settings // those that differ from the zero Settings
	changed chan struct{}                   // closed at the next change of any of them
}

func newConfigured() *configured {
	return &configured{
		known: make(chan struct{}), of: map[events.DirectoryID]Settings{}, changed: make(chan struct{}),
	}
}

// follow keeps the fold up to date until ctx ends.
func (c *configured) follow(ctx context.Context, b *bus.Bus) error {
	return b.Fold(ctx, events.StreamDirectories, func() { close(c.known) }, func(_ uint64, fact events.Fact) error {
		c.evolve(fact)
		return nil
	})
}

func (c *configured) evolve(fact events.Fact) {
	var id events.DirectoryID
	var now Settings
	switch f := fact.(type) {
	case *events.DirectoryConfigured:
		id, now = f.Directory, Settings{max(f.Delay, 0), max(f.TargetRPO, 0), f.SyncRate}
	case *events.DirectoryForgotten:
		id = f.Directory
	default:
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[id] == now {
		return
	}
	c.of[id] = now
	if now == (Settings{}) {
		delete(c.of, id)
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// settings returns how a directory is to be followed now.
func (s *Service) settings(id events.DirectoryID) Settings {
	s.configured.mu.Lock()
	defer s.configured.mu.Unlock()
	return s.configured.of[id]
}

// settingsChanged returns a channel that is closed at the next change of any directory's
// settings. Whoever waits for one takes the channel first, and looks at the settings then.
func (s *Service) settingsChanged() <-chan struct{} {
	s.configured.mu.Lock()
	defer s.configured.mu.Unlock()
	return s.configured.changed
}
