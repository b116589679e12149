package holder_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/replica"
)

// copyOf counts what a compaction asks of a copy.
type copyOf struct {
	mu                 sync.Mutex
	steps, more, holds int
	ready              bool
	err                error
}

// now gives the copy to f alone.
func (c *copyOf) now(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *copyOf) isReady() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ready
}

func (c *copyOf) Compact(context.Context) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps++
	if c.holds > 0 {
		return false, nil
	}
	c.more--
	return c.more > 0, c.err
}

func (c *copyOf) HoldCompaction() func() {
	c.now(func() { c.holds++ })
	return func() { c.now(func() { c.holds-- }) }
}

// A hold lasts for a minute after it was asked for last, and one that has ended stays so.
func TestHoldEndsWhenNobodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := &copyOf{}
		c := holder.NewCompaction(own, func() bool { return true })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		hold, other := c.Hold(), c.Hold()
		if other == hold || other == 0 || own.holds != 1 {
			t.Errorf("two followers hold %d and %d, %d times", hold, other, own.holds)
		}
		c.LetGo(other)
		if err := c.Renew(other); fault.CodeOf(err) != fault.NotReady {
			t.Errorf("a hold that was let go is renewed: %v", err)
		}
		for range 3 {
			time.Sleep(59 * time.Second)
			synctest.Wait()
			if err := c.Renew(hold); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(62 * time.Second)
		synctest.Wait()
		if err := c.Renew(hold); fault.CodeOf(err) != fault.NotReady || own.holds != 0 {
			t.Errorf("after a minute: %v, held %d times", err, own.holds)
		}
		c.LetGo(c.Hold())
		if own.holds != 0 {
			t.Error("held when everybody has let go")
		}
		c.Hold()
		cancel()
		if err := <-ended; err != nil || own.holds != 0 {
			t.Errorf("ended with %v, held %d times", err, own.holds)
		}
	})
}

// Steps follow each other while there is more to do, not before the copy is ready, and end
// with the first that fails.
func TestCompactionTakesSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := &copyOf{more: 100}
		c := holder.NewCompaction(own, own.isReady)
		ended := make(chan error, 1)
		go func() { ended <- c.Run(t.Context()) }()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		own.now(func() {
			if own.steps != 0 {
				t.Errorf("%d steps before the copy was ready", own.steps)
			}
			own.ready = true
		})
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		own.now(func() {
			if own.more > 0 {
				t.Errorf("%d steps left", own.more)
			}
			own.err = replica.ErrClosed
		})
		if err := <-ended; !errors.Is(err, replica.ErrClosed) {
			t.Errorf("a step that fails: %v", err)
		}
	})
}
