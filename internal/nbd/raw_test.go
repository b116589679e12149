package nbd_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tidemark/internal/nbd"
	"tidemark/internal/nbd/nbdtest"
	"tidemark/internal/nbd/wire"
)

// patience is how long a test waits for what must come; it is never waited out.
const patience = 2 * time.Minute

const diskSize = 1 << 20

func newDisk() *nbdtest.Disk {
	return nbdtest.NewDisk(nbd.Info{Name: "disk", Description: "a disk", Size: diskSize})
}

// running is a server under test.
type running struct {
	path  string
	stop  context.CancelFunc // begins the shutdown
	ended chan error         // Serve's result
}

// serve runs a server of disks until the test ends.
func serve(t *testing.T, l nbd.Limits, disks ...*nbdtest.Disk) *running {
	t.Helper()
	return serveExports(t, l, nbdtest.NewExports(disks...))
}

// serveExports runs a server until the test ends.
func serveExports(t *testing.T, l nbd.Limits, e nbd.Exports) *running {
	t.Helper()
	dir, err := os.MkdirTemp("", "nbd") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &running{path: filepath.Join(dir, "s"), ended: make(chan error, 1)}
	lis, err := net.Listen("unix", r.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	s := nbd.New(nbd.Config{Exports: e, Log: slog.New(slog.DiscardHandler), Limits: l})
	go func() { r.ended <- s.Serve(ctx, lis) }()
	t.Cleanup(func() {
		stop()
		r.wait(t)
	})
	return r
}

// wait waits for Serve to return.
func (r *running) wait(t *testing.T) {
	t.Helper()
	select {
	case err := <-r.ended:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
		r.ended <- nil // for the next who waits
	case <-time.After(patience):
		t.Fatal("Serve does not return")
	}
}

// raw speaks the protocol byte by byte.
type raw struct {
	t    *testing.T
	conn net.Conn
}

func (r *running) dial(t *testing.T) *raw {
	t.Helper()
	conn, err := net.Dial("unix", r.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &raw{t: t, conn: conn}
}

func (c *raw) send(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

func (c *raw) recv(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c.conn, b); err != nil {
		c.t.Fatalf("receive %d bytes: %v", n, err)
	}
	return b
}

// gone waits for the server to close, with nothing more to say.
func (c *raw) gone() {
	c.t.Helper()
	b := make([]byte, 64)
	n, err := c.conn.Read(b)
	if n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("the connection is still open: %x, %v", b[:n], err)
	}
}

// greet exchanges greetings.
func (c *raw) greet(flags uint32) *raw {
	c.t.Helper()
	b := c.recv(18)
	if binary.BigEndian.Uint64(b) != wire.MagicInit || binary.BigEndian.Uint64(b[8:]) != wire.MagicOption || b[17] != 3 {
		c.t.Fatalf("greeting %x", b)
	}
	c.send(binary.BigEndian.AppendUint32(nil, flags))
	return c
}

// hello greets as modern clients do.
func (c *raw) hello() *raw {
	c.t.Helper()
	return c.greet(wire.HandshakeFixedNewstyle | wire.HandshakeNoZeroes)
}

// answer is one answer of the handshake.
type answer struct {
	kind wire.OptReply
	data string
}

// option sends an option and returns its answers, to the final one.
func (c *raw) option(opt wire.Option, data []byte) []answer {
	c.t.Helper()
	c.send(wire.AppendOption(nil, opt, data))
	return c.answers(opt)
}

func (c *raw) answers(opt wire.Option) []answer {
	c.t.Helper()
	var out []answer
	for {
		b := c.recv(wire.OptReplySize)
		if binary.BigEndian.Uint64(b) != wire.MagicOptReply || wire.Option(binary.BigEndian.Uint32(b[8:])) != opt {
			c.t.Fatalf("answer %x to option %d", b, opt)
		}
		a := answer{kind: wire.OptReply(binary.BigEndian.Uint32(b[12:]))}
		a.data = string(c.recv(int(binary.BigEndian.Uint32(b[16:]))))
		out = append(out, a)
		if a.kind == wire.RepAck || a.kind&wire.OptReplyError != 0 {
			return out
		}
	}
}

// expect sends an option and demands that the final answer is want.
func (c *raw) expect(want wire.OptReply, opt wire.Option, data []byte) []answer {
	c.t.Helper()
	got := c.option(opt, data)
	if last := got[len(got)-1]; last.kind != want {
		c.t.Fatalf("option %d: answer %#x %q, want %#x", opt, uint32(last.kind), last.data, uint32(want))
	}
	return got
}

// export is the data of INFO and GO.
func export(name string, infos ...wire.InfoType) []byte {
	b := wire.AppendString(nil, name)
	b = binary.BigEndian.AppendUint16(b, uint16(len(infos)))
	for _, i := range infos {
		b = binary.BigEndian.AppendUint16(b, uint16(i))
	}
	return b
}

// queries is the data of the meta context options.
func queries(name string, qs ...string) []byte {
	b := wire.AppendString(nil, name)
	b = binary.BigEndian.AppendUint32(b, uint32(len(qs)))
	for _, q := range qs {
		b = wire.AppendString(b, q)
	}
	return b
}

// simple enters transmission on "disk" with simple replies.
func (r *running) simple(t *testing.T) *raw {
	t.Helper()
	c := r.dial(t).hello()
	c.expect(wire.RepAck, wire.OptGo, export("disk"))
	return c
}

// structured enters transmission on "disk" with structured replies and base:allocation.
func (r *running) structured(t *testing.T) *raw {
	t.Helper()
	c := r.dial(t).hello()
	c.expect(wire.RepAck, wire.OptStructuredReply, nil)
	c.expect(wire.RepAck, wire.OptSetMetaContext, queries("disk", wire.BaseAllocation))
	c.expect(wire.RepAck, wire.OptGo, export("disk"))
	return c
}

// request sends a request with the data that follows it.
func (c *raw) request(r wire.Request, payload []byte) {
	c.t.Helper()
	c.send(append(r.Append(nil), payload...))
}

// errno takes a simple reply.
func (c *raw) errno(cookie uint64) wire.Errno {
	c.t.Helper()
	b := c.recv(wire.SimpleSize)
	if binary.BigEndian.Uint32(b) != wire.MagicSimple || binary.BigEndian.Uint64(b[8:]) != cookie {
		c.t.Fatalf("reply %x to request %d", b, cookie)
	}
	return wire.Errno(binary.BigEndian.Uint32(b[4:]))
}

// chunk is one chunk of a structured reply.
type chunk struct {
	done    bool
	kind    wire.ChunkType
	payload []byte
}

func (c *raw) chunk(cookie uint64) chunk {
	c.t.Helper()
	b := c.recv(wire.StructuredSize)
	if binary.BigEndian.Uint32(b) != wire.MagicStructured || binary.BigEndian.Uint64(b[8:]) != cookie {
		c.t.Fatalf("reply %x to request %d", b, cookie)
	}
	return chunk{
		done:    b[5]&wire.ChunkDone != 0,
		kind:    wire.ChunkType(binary.BigEndian.Uint16(b[6:])),
		payload: c.recv(int(binary.BigEndian.Uint32(b[16:]))),
	}
}

// alive shows that the session still works and is in step.
func (c *raw) alive() {
	c.t.Helper()
	const cookie = 0xa11e
	c.request(wire.Request{Command: wire.CmdFlush, Cookie: cookie}, nil)
	if got := c.errno(cookie); got != 0 {
		c.t.Fatalf("FLUSH: %v", got)
	}
}
