package bus_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/sitetest"
)

// TestReadersLeaveNothingBehind: a reader that has ended has no consumer at the server,
// which allows only so many.
func TestReadersLeaveNothingBehind(t *testing.T) {
	at := sitetest.Start(t, "east")
	if _, err := at.Bus.Publish(t.Context(), events.StreamPools, &events.PoolCreated{Pool: "vms"}); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := at.Bus.ReadTo(t.Context(), events.StreamPools, 1, 1, func(bus.Message) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	js, err := jetstream.New(at.Bus.Conn())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), events.StreamPools)
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Consumers; n != 0 {
		t.Errorf("%d consumers are left at the server", n)
	}
}
