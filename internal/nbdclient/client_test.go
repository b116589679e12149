package nbdclient_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"tidemark/internal/fault"
	"tidemark/internal/nbd"
	"tidemark/internal/nbd/nbdtest"
	"tidemark/internal/nbd/wire"
	"tidemark/internal/nbdclient"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const diskSize = 8 << 20

// socket returns the path of a socket that goes away with the test.
func socket(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nbd") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// serve runs our server until the test ends and returns its socket and its stop.
func serve(t testing.TB, disks ...*nbdtest.Disk) (path string, stop func()) {
	t.Helper()
	path = socket(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := nbd.New(nbd.Config{Exports: nbdtest.NewExports(disks...), Log: slog.New(slog.DiscardHandler), Limits: nbd.Limits{DrainTime: 5 * time.Second}})
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return path, stop
}

func newDisk() *nbdtest.Disk {
	return nbdtest.NewDisk(nbd.Info{Name: "pool/disk", Size: diskSize, BlockMax: 1 << 20})
}

// bounded is a context that a test never waits out.
func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func dial(t testing.TB, path, export string) *nbdclient.Conn {
	t.Helper()
	c, err := nbdclient.Dial(bounded(t), "unix", path, export)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(bounded(t)) })
	return c
}

func TestEveryRequest(t *testing.T) {
	d := newDisk()
	d.Record()
	path, _ := serve(t, d)
	ctx, c := bounded(t), dial(t, path, "")
	if c.Size() != diskSize || c.ReadOnly() || !c.MultiConn() {
		t.Errorf("size %d, read-only %v, multi-conn %v", c.Size(), c.ReadOnly(), c.MultiConn())
	}
	data := bytes.Repeat([]byte("tide"), 600<<10) // three requests
	steps := map[string]error{
		"write": c.WriteAt(ctx, data, 4096, true),
		"trim":  c.Trim(ctx, 64<<10, 64<<10, false),
		"zero":  c.Zero(ctx, 4096, 100, true),
		"flush": c.Flush(ctx),
	}
	for name, err := range steps {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	want := bytes.Clone(data)
	clear(want[:100])
	clear(want[60<<10:][:64<<10])
	got := make([]byte, len(want))
	if err := c.ReadAt(ctx, got, 4096); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("read back something else")
	}
	extents, err := c.Extents(ctx, 0, 256<<10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]nbdclient.Extent{{Length: 64 << 10}, {Length: 64 << 10, Hole: true, Zero: true}, {Length: 128 << 10}}, extents); diff != "" {
		t.Error(diff)
	}
	for _, op := range d.Ops() {
		if op.FUA != (op.Kind == "write" || op.Kind == "zero") || op.NoHole != (op.Kind == "zero") {
			t.Errorf("the disk was asked for %+v", op)
		}
	}
	if err := c.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := c.Flush(ctx); err == nil {
		t.Error("a closed connection flushes")
	}
	if opened, closed := d.Sessions(); opened != 1 || closed != 1 {
		t.Errorf("after Close, opened %d, closed %d", opened, closed)
	}
}

func TestManyGoroutinesShareAConnection(t *testing.T) {
	path, _ := serve(t, newDisk())
	ctx, c := bounded(t), dial(t, path, "pool/disk")
	var workers sync.WaitGroup
	for w := range uint64(16) {
		workers.Go(func() {
			r := rand.New(rand.NewPCG(w, 1))
			base, span := w*(diskSize/16), uint64(diskSize/16)
			model, got := make([]byte, span), make([]byte, span)
			for range 60 {
				off, n := r.Uint64N(span), 1+r.Uint64N(100<<10)
				n = min(n, span-off)
				part := model[off : off+n]
				for i := range part {
					part[i] = byte(r.Uint32())
				}
				if err := c.WriteAt(ctx, part, base+off, false); err != nil {
					t.Error(err)
					return
				}
				off = r.Uint64N(span)
				if err := c.ReadAt(ctx, got[off:], base+off); err != nil || !bytes.Equal(got[off:], model[off:]) {
					t.Errorf("read back something else, or %v", err)
					return
				}
			}
		})
	}
	workers.Wait()
}

func TestErrorsAreTyped(t *testing.T) {
	d := newDisk()
	path, _ := serve(t, d)
	ctx, c := bounded(t), dial(t, path, "")
	d.Fail(fault.New(fault.NoSpace, "the journal is full"))
	var errno nbdclient.Errno
	if err := c.WriteAt(ctx, []byte("x"), 0, false); !errors.As(err, &errno) || errno != wire.ENOSPC || !strings.Contains(err.Error(), "the journal is full") {
		t.Errorf("WriteAt: %v", err)
	}
	if err := c.ReadAt(ctx, make([]byte, 2), diskSize-1); !errors.As(err, &errno) || errno != wire.EINVAL {
		t.Errorf("ReadAt beyond the end: %v", err)
	}
	var refused *nbdclient.RefusedError
	if _, err := nbdclient.Dial(ctx, "unix", path, "absent"); !errors.As(err, &refused) || refused.Reply != wire.RepErrUnknown {
		t.Errorf("Dial: %v", err)
	}
}

func TestReadOnly(t *testing.T) {
	path, _ := serve(t, nbdtest.NewDisk(nbd.Info{Name: "ro", Size: diskSize, ReadOnly: true}))
	ctx, c := bounded(t), dial(t, path, "ro")
	if !c.ReadOnly() {
		t.Error("not read-only")
	}
	var errno nbdclient.Errno
	if err := c.WriteAt(ctx, []byte("x"), 0, false); !errors.As(err, &errno) || errno != wire.EPERM {
		t.Errorf("WriteAt: %v", err)
	}
	if err := c.Zero(ctx, 0, 1, false); !errors.Is(err, wire.ENOTSUP) {
		t.Errorf("Zero: %v", err)
	}
}

func TestList(t *testing.T) {
	path, _ := serve(t, newDisk(), nbdtest.NewDisk(nbd.Info{Name: "a"}))
	got, err := nbdclient.List(bounded(t), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "pool/disk"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestServerThatEndsBreaksTheConnection(t *testing.T) {
	path, stop := serve(t, newDisk())
	ctx, c := bounded(t), dial(t, path, "")
	stop()
	if err := c.Flush(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Flush: %v", err)
	}
}

func TestCallWhoseContextEndsReturns(t *testing.T) {
	d := newDisk()
	path, _ := serve(t, d)
	c := dial(t, path, "")
	release := d.Hold()
	defer release()
	ctx, cancel := context.WithCancel(bounded(t))
	go func() {
		<-d.Arrived()
		cancel()
	}()
	if err := c.ReadAt(ctx, make([]byte, 10), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("ReadAt: %v", err)
	}
	if err := c.Flush(bounded(t)); err == nil {
		t.Error("the connection works on")
	}
}

// hostile serves one connection with a proper handshake and then what it is given,
// after the first request; the request's cookie, 1, is the test's to know.
func hostile(t testing.TB, replies []byte) (path string) {
	t.Helper()
	path = socket(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	b = binary.BigEndian.AppendUint64(b, wire.MagicInit)
	b = binary.BigEndian.AppendUint64(b, wire.MagicOption)
	b = append(b, 0, 3)
	b = wire.AppendOptReply(b, wire.OptStructuredReply, wire.RepAck, 0)
	b = wire.AppendOptReply(b, wire.OptSetMetaContext, wire.RepMetaContext, 4+len(wire.BaseAllocation))
	b = append(append(b, 0, 0, 0, 1), wire.BaseAllocation...)
	b = wire.AppendOptReply(b, wire.OptSetMetaContext, wire.RepAck, 0)
	b = wire.AppendOptReply(b, wire.OptGo, wire.RepInfo, 12)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, wire.FlagHasFlags|wire.FlagSendFlush)
	b = wire.AppendOptReply(b, wire.OptGo, wire.RepAck, 0)
	var server sync.WaitGroup
	server.Go(func() {
		defer func() { _ = l.Close() }()
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = conn.Write(b)
		greeting := 4 + 3*wire.OptionSize + 4 + 4 + 4 + len(wire.BaseAllocation) + 4 + 2 + 2
		if _, err := io.ReadFull(conn, make([]byte, greeting+wire.RequestSize)); err != nil {
			return
		}
		_, _ = conn.Write(replies)
	})
	t.Cleanup(server.Wait)
	return path
}

func hostileReplies() map[string][]byte {
	chunk := func(flags uint16, kind wire.ChunkType, payload ...byte) []byte {
		return append(wire.AppendChunk(nil, flags, kind, 1, uint32(len(payload))), payload...)
	}
	zeroes := make([]byte, 7)
	return map[string][]byte{
		"nothing":             nil,
		"wrong magic":         make([]byte, 64),
		"other cookie":        wire.AppendSimple(nil, 0, 99),
		"simple":              append(wire.AppendSimple(nil, 0, 1), make([]byte, 16)...),
		"no data":             chunk(1, wire.ChunkNone),
		"too much data":       chunk(1, wire.ChunkOffsetData, make([]byte, 8+17)...),
		"too little data":     chunk(1, wire.ChunkOffsetData, append(zeroes, 0, 1, 2, 3)...),
		"data elsewhere":      chunk(1, wire.ChunkOffsetData, append(zeroes, 200, 1)...),
		"data before":         chunk(1, wire.ChunkOffsetData, append(bytes.Repeat([]byte{0xff}, 8), 1)...),
		"claims 4 GiB":        wire.AppendChunk(nil, 1, wire.ChunkOffsetData, 1, 0xffffffff),
		"hole of 4 GiB":       chunk(1, wire.ChunkOffsetHole, append(zeroes, 0, 0xff, 0xff, 0xff, 0xff)...),
		"extents for a read":  chunk(1, wire.ChunkBlockStatus, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0),
		"error with no error": chunk(1, wire.ChunkError, make([]byte, 6)...),
		"error cut short":     chunk(1, wire.ChunkError, 0, 0, 0, 5, 0, 9, 'x'),
		"unknown chunk":       chunk(1, 77, 1, 2, 3),
	}
}

func TestHostileRepliesBreakTheConnection(t *testing.T) {
	for name, replies := range hostileReplies() {
		c := dial(t, hostile(t, replies), "")
		err := c.ReadAt(bounded(t), make([]byte, 16), 0)
		var errno nbdclient.Errno
		if err == nil || errors.As(err, &errno) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadInManyChunks(t *testing.T) {
	var b []byte
	b = wire.AppendChunk(b, 0, wire.ChunkOffsetHole, 1, 12)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 8)
	b = wire.AppendChunk(b, 0, wire.ChunkOffsetData, 1, 12)
	b = append(b, "\x00\x00\x00\x00\x00\x00\x00\x0cdata"...)
	b = wire.AppendChunk(b, 0, wire.ChunkOffsetData, 1, 12)
	b = append(b, "\x00\x00\x00\x00\x00\x00\x00\x00tide"...)
	b = wire.AppendChunk(b, 1, wire.ChunkNone, 1, 0)
	c := dial(t, hostile(t, b), "")
	got := bytes.Repeat([]byte("x"), 16)
	if err := c.ReadAt(bounded(t), got, 0); err != nil || string(got) != "tide\x00\x00\x00\x00\x00\x00\x00\x00data" {
		t.Errorf("read %q, %v", got, err)
	}
}

func FuzzReplies(f *testing.F) {
	for _, b := range hostileReplies() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ctx := bounded(t)
		c, err := nbdclient.Dial(ctx, "unix", hostile(t, b), "")
		if err != nil {
			t.Fatal(err)
		}
		_ = c.ReadAt(ctx, make([]byte, 16), 0)
		_, _ = c.Extents(ctx, 0, 16)
		_ = c.Close(ctx)
		if ctx.Err() != nil {
			t.Fatal("the client hangs")
		}
	})
}
