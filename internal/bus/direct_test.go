package bus_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/internal/bus"
	"tidemark/internal/natsd"
)

// wire is what the logs' own connections go through.
type wire struct {
	server                *natsd.Server
	dials, closes, pings  atomic.Int64
	refuse                atomic.Bool // connections
	loseWrites, loseReads atomic.Bool // of what is appended
	hold                  atomic.Bool // what is read, until the connection is closed
}

type wired struct {
	net.Conn
	wire   *wire
	closed chan struct{}
	once   atomic.Bool
}

var errWire = errors.New("the wire was cut")

func (w *wire) dial() (net.Conn, error) {
	if w.refuse.Load() {
		return nil, errWire
	}
	w.dials.Add(1)
	c, err := w.server.Dial()
	return &wired{Conn: c, wire: w, closed: make(chan struct{})}, err
}

func (c *wired) Write(p []byte) (int, error) {
	if c.wire.loseWrites.Load() {
		return 0, errWire
	}
	return c.Conn.Write(p)
}

func (c *wired) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if bytes.Contains(p[:n], []byte("PING\r\n")) {
		c.wire.pings.Add(1)
	}
	if c.wire.hold.Load() {
		<-c.closed
		return 0, errWire
	}
	if c.wire.loseReads.Load() {
		return 0, errWire
	}
	return n, err
}

func (c *wired) Close() error {
	if c.once.CompareAndSwap(false, true) {
		close(c.closed)
		c.wire.closes.Add(1)
	}
	return c.Conn.Close()
}

// wiredLog returns a log whose own connection is open, with two messages. It takes another log
// when the machine had no time to append the second of them soon.
func wiredLog(t *testing.T) (*wire, *bus.Log, string) {
	w := &wire{server: start(t, t.TempDir(), "127.0.0.1:0")}
	b := connect(t, bus.Config{Syncer: w.server, Dial: w.dial, Options: []nats.Option{w.server.InProcess()}})
	for range 50 {
		l, subject := newLog(t, b, 0)
		fill(t, l, subject, 1, 2)
		if w.dials.Load() == 1 {
			return w, l, subject
		}
	}
	t.Fatalf("logs that are appended to often have made %d connections", w.dials.Load())
	return nil, nil, ""
}

// TestOwnConnectionFails: whatever becomes of a log's own connection, a message is stored
// once, and the log goes on.
func TestOwnConnectionFails(t *testing.T) {
	for name, fault := range map[string]func(*wire) *atomic.Bool{
		"nothing is sent":      func(w *wire) *atomic.Bool { return &w.loseWrites },
		"the answer is lost":   func(w *wire) *atomic.Bool { return &w.loseReads },
		"nobody can connect":   func(w *wire) *atomic.Bool { w.loseReads.Store(true); return &w.refuse },
		"not even by and by":   func(w *wire) *atomic.Bool { w.loseWrites.Store(true); return &w.refuse },
		"the greeting is lost": func(w *wire) *atomic.Bool { return &w.loseReads },
	} {
		t.Run(name, func(t *testing.T) {
			w, l, subject := wiredLog(t)
			fault(w).Store(true)
			fill(t, l, subject, 3, 5)
			w.loseReads.Store(false)
			w.loseWrites.Store(false)
			w.refuse.Store(false)
			fill(t, l, subject, 6, 20)
			if err := l.ReadTo(within(t), 1, 20, expect(t, 1)); err != nil {
				t.Error(err)
			}
			if st, err := l.State(within(t)); err != nil || st.Last != 20 {
				t.Errorf("stored twice: %+v, %v", st, err)
			}
			if w.dials.Load() < 2 {
				t.Error("there was no second connection")
			}
		})
	}
}

// TestOwnConnectionIsSilent: an append whose answer does not come is undecided for a
// caller that does not wait for it to be looked up.
func TestOwnConnectionIsSilent(t *testing.T) {
	w, l, subject := wiredLog(t)
	w.hold.Store(true)
	last := uint64(2)
	var err error
	for ; err == nil && last < 50; last++ { // one that comes late goes another way, and is stored
		impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err = l.Append(impatient, subject, text(last+1), last)
		cancel()
	}
	if !errors.Is(err, bus.ErrUndecided) {
		t.Errorf("got %v", err)
	}
	w.hold.Store(false)
	fill(t, l, subject, last, last+6) // the last message is there already
	if st, err := l.State(within(t)); err != nil || st.Last != last+6 {
		t.Errorf("stored twice: %+v, %v", st, err)
	}
}

// TestOwnConnectionEnds: one that is idle is closed before the server pings in vain; in
// use it answers the pings.
func TestOwnConnectionEnds(t *testing.T) {
	w, l, subject := wiredLog(t)
	seq := uint64(2)
	for deadline := time.Now().Add(2 * time.Minute); w.pings.Load() == 0; seq++ {
		if time.Now().After(deadline) {
			t.Fatal("the server does not ping")
		}
		fill(t, l, subject, seq+1, seq+1)
	}
	if w.closes.Load() != 0 {
		t.Error("a connection in use was closed")
	}
	await(t, func() bool { return w.closes.Load() == 1 })
	for range 50 {
		if w.dials.Load() == 1 { // what comes late needs no connection
			fill(t, l, subject, seq+1, seq+2)
			seq += 2
		}
	}
	if w.dials.Load() != 2 {
		t.Errorf("%d connections were made", w.dials.Load())
	}
}

// await returns when ok is true.
func await(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("it does not come to be")
		}
	}
}

// TestOwnConnectionCarriesAnyLength: a message is what was appended, however it was cut
// into pieces.
func TestOwnConnectionCarriesAnyLength(t *testing.T) {
	w, l, subject := wiredLog(t)
	last := uint64(2)
	for _, n := range []int{0, 1, 4 << 10, 64<<10 - 1, 64 << 10, 128 << 10, 192<<10 - 1, 192 << 10, 192<<10 + 1, 256 << 10, 500_000, 512 << 10, 1 << 20} {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(i>>16) ^ byte(i>>8) ^ byte(i)
		}
		seq, err := l.Append(within(t), subject, data, last)
		if err != nil || seq != last+1 {
			t.Fatalf("%d bytes: %d, %v", n, seq, err)
		}
		last = seq
		if m, err := l.Get(within(t), seq); err != nil || !bytes.Equal(m.Data, data) {
			t.Errorf("%d bytes were not kept: %v", n, err)
		}
	}
	if w.dials.Load() != 1 || w.closes.Load() != 0 {
		t.Errorf("%d connections were made, %d closed", w.dials.Load(), w.closes.Load())
	}
}
