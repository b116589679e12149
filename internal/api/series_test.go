package api_test

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
)

// A receiver decides when each message after the first is sent, and one that stops taking
// them ends the sending.
func TestSeriesIsSentAsItIsAskedFor(t *testing.T) {
	at := sitetest.Start(t, "east")
	var sent atomic.Int64
	ended := make(chan error, 1)
	stop, err := api.Serve(t.Context(), at.Bus.Conn(), at.Log,
		api.OnSeries("test.series", func(_ context.Context, _ api.Nothing, send func([]byte) error) error {
			for i := range byte(5) {
				if err := send([]byte{i}); err != nil {
					ended <- err
					return err
				}
				sent.Add(1)
			}
			ended <- nil
			return nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), sitetest.Patience)
	defer cancel()

	s, err := api.CallSeries(at.Bus.Conn(), "test.series", api.Nothing{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range byte(5) {
		data, err := s.Next(ctx)
		if err != nil || !bytes.Equal(data, []byte{i}) {
			t.Fatalf("message %d: %v, %v", i, data, err)
		}
		if n := sent.Load(); n > int64(i)+1 {
			t.Fatalf("%d messages were sent, %d asked for", n, i+1)
		}
	}
	s.Close()
	if err := <-ended; err != nil {
		t.Errorf("the series ended with %v", err)
	}

	if s, err = api.CallSeries(at.Bus.Conn(), "test.series", api.Nothing{}); err != nil {
		t.Fatal(err)
	}
	if _, err = s.Next(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Hold(func() error { // longer than a sender waits in silence
		<-time.After(6 * time.Second)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err = s.Next(ctx); err != nil {
		t.Fatalf("after a hold: %v", err)
	}
	s.Close() // and is silent from here on
	if err := <-ended; fault.CodeOf(err) != fault.Timeout || errors.Is(err, context.Canceled) {
		t.Errorf("a series that nobody takes ended with %v", err)
	}
}
