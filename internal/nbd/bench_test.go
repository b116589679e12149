package nbd_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"tidemark/internal/nbd"
	"tidemark/internal/nbd/nbdtest"
	"tidemark/internal/nbd/wire"
	"tidemark/internal/nbdclient"
)

// BenchmarkRequests measures requests over a unix socket against memory, with our own
// client: both ends, and the two processors between them.
func BenchmarkRequests(b *testing.B) {
	for _, cmd := range []wire.Command{wire.CmdWrite, wire.CmdRead} {
		for _, depth := range []int{1, 32} {
			name := map[wire.Command]string{wire.CmdWrite: "write", wire.CmdRead: "read"}[cmd]
			b.Run(fmt.Sprintf("%s/4KiB/depth=%d", name, depth), func(b *testing.B) { benchRequests(b, cmd, depth) })
		}
	}
}

func benchRequests(b *testing.B, cmd wire.Command, depth int) {
	const block, size = 4096, 64 << 20
	dir, err := os.MkdirTemp("", "nbd")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	s := nbd.New(nbd.Config{Exports: nbdtest.NewExports(nbdtest.NewDisk(nbd.Info{Name: "disk", Size: size})), Log: slog.New(slog.DiscardHandler)})
	var server sync.WaitGroup
	server.Go(func() { _ = s.Serve(ctx, l) })
	defer server.Wait()
	defer stop()
	c, err := nbdclient.Dial(ctx, "unix", path, "disk")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()

	b.SetBytes(block)
	b.ReportAllocs()
	var next atomic.Int64
	var workers sync.WaitGroup
	b.ResetTimer()
	for range depth {
		workers.Go(func() {
			p := make([]byte, block)
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				off := uint64(i) * 7919 * block % size
				var err error
				if cmd == wire.CmdWrite {
					err = c.WriteAt(ctx, p, off, false)
				} else {
					err = c.ReadAt(ctx, p, off)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}
