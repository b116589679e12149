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
