package nbdtest_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"testing"

	"tidemark/internal/nbd"
	"tidemark/internal/nbd/nbdtest"
)

// TestServeForTools serves memory to outside tools until it is interrupted, if asked to
// by TIDEMARK_NBD_SERVE (a socket's path) and TIDEMARK_NBD_SIZE (bytes):
//
//	TIDEMARK_NBD_SERVE=/tmp/s TIDEMARK_NBD_SIZE=4294967296 go test -run TestServeForTools -timeout 0 ./internal/nbd/nbdtest
func TestServeForTools(t *testing.T) {
	path := os.Getenv("TIDEMARK_NBD_SERVE")
	if path == "" {
		t.Skip("TIDEMARK_NBD_SERVE is not set")
	}
	size, err := strconv.ParseUint(os.Getenv("TIDEMARK_NBD_SIZE"), 10, 63)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	exports := nbdtest.NewExports(
		nbdtest.NewDisk(nbd.Info{Name: "mem", Description: "memory", Size: size}),
		nbdtest.NewDisk(nbd.Info{Name: "pool/dir/frozen", Size: 1 << 20, ReadOnly: true}),
	)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	s := nbd.New(nbd.Config{Exports: exports, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err := s.Serve(ctx, l); err != nil {
		t.Error(err)
	}
}
