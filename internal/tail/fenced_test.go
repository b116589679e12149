package tail

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/sitetest"
)

// TestFencedTailEnds: a tail whose commit position the log refuses, because another node may
// hold the directory, ends by itself with that.
func TestFencedTailEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.history(5)
	r.open(func(cfg *Config) {
		owner(cfg)
		cfg.OnCommit = func(context.Context, events.Mark) error { return fmt.Errorf("announce: %w", ErrFenced) }
	})
	ctx, cancel := context.WithCancel(r.ctx())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.tail.Run(ctx) }()
	_ = r.tail.Replay(ctx) // the end of the tail may cut it short
	r.tail.Hurry()
	select {
	case err := <-ended:
		if !errors.Is(err, ErrFenced) {
			t.Errorf("the tail ended with %v", err)
		}
	case <-time.After(sitetest.Patience):
		t.Fatal("the tail goes on")
	}
}
