package natsd

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"
)

// taken returns a configuration whose address somebody else listens on.
func taken(t *testing.T) (Config, net.Listener) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // it may be closed
	cfg := config(t.TempDir())
	cfg.Listen = l.Addr().String()
	return cfg, l
}

func TestStartWaitsForItsAddress(t *testing.T) {
	cfg, l := taken(t)
	leaving := time.AfterFunc(5*addressPoll, func() { _ = l.Close() })
	defer leaving.Stop()
	start(t, cfg)
}

func TestTakenAddressIsRefusedInTime(t *testing.T) {
	cfg, _ := taken(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*addressPoll) // a busy machine has looked by then
	defer cancel()
	if _, err := Start(ctx, cfg); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Start: %v", err)
	}
}
