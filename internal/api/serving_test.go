package api

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
)

// TestLateRequest: a request that its subscription hands over while stop goes on starts
// no handler, and is refused: TestServingBeginsAnew.
func TestLateRequest(t *testing.T) {
	s := newServing(t.Context(), nil, slog.New(slog.DiscardHandler))
	var ran atomic.Int64
	h := On("test", func(context.Context, Nothing) (Nothing, error) { ran.Add(1); return Nothing{}, nil })
	s.stop()
	for range requestsMax {
		s.answer(h, &nats.Msg{Data: []byte("{}")})
	}
	s.running.Wait()
	if n := ran.Load(); n != 0 {
		t.Errorf("%d handlers ran after stop", n)
	}
}

// watched is a context that counts what waits for its end.
type watched struct {
	context.Context //nolint:containedctx // it is a context
	waiting         atomic.Int64
}

// Value hides that the context within is one of package context's own.
func (w *watched) Value(any) any { return nil }

// AfterFunc is how package context waits for any other.
func (w *watched) AfterFunc(func()) (stop func() bool) {
	w.waiting.Add(1)
	return func() bool { w.waiting.Add(-1); return true }
}

// TestRequestLeavesNothingBehind: who serves for months holds nothing of a request that was
// answered.
func TestRequestLeavesNothingBehind(t *testing.T) {
	s := newServing(t.Context(), nil, slog.New(slog.DiscardHandler))
	life := &watched{Context: s.ctx}
	s.ctx = life
	short := On("test", func(context.Context, Nothing) (Nothing, error) { return Nothing{}, nil })
	long := OnLong("test", func(context.Context, Nothing, func(Progress)) (Nothing, error) { return Nothing{}, nil })
	for range requestsMax {
		s.answer(short, &nats.Msg{Data: []byte("{}")})
		s.answer(long, &nats.Msg{Data: []byte("{}")})
	}
	s.running.Wait()
	if n := life.waiting.Load(); n != 0 {
		t.Errorf("%d of %d requests are held", n, 2*requestsMax)
	}
	s.stop()
}
