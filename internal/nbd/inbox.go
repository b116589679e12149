package nbd

import (
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// inboxBytes stays in a processor's cache while it is copied from.
	inboxBytes = 64 << 10
	// takeMax is the largest payload that is handed on without leaving the inbox;
	// a larger one is read into a buffer of its own.
	takeMax = 32 << 10
	// stride is the part of a payload that has StallTime to arrive or to be taken.
	stride = 1 << 20
)

// inbox reads requests ahead, so that one system call fetches many. Only the reader
// uses it, but for interrupt.
type inbox struct {
	conn  net.Conn
	stall time.Duration
	buf   []byte
	r, w  int    // buf[r:w] has arrived and was not taken yet
	armed bool   // a deadline is set
	waits func() // called before every wait for the client

	mu          sync.Mutex // guards interrupted, and the deadline against it
	interrupted bool       // the deadline has passed for good
}

func newInbox(conn net.Conn, stall time.Duration) *inbox {
	return &inbox{conn: conn, stall: stall, buf: make([]byte, inboxBytes), waits: func() {}}
}

// buffered reports whether n bytes can be taken without waiting.
func (in *inbox) buffered(n int) bool { return in.w-in.r >= n }

// await waits, without bound, until anything can be taken.
func (in *inbox) await() error {
	if in.buffered(1) {
		return nil
	}
	if in.armed {
		in.setDeadline(time.Time{})
		in.armed = false
	}
	return in.fill()
}

// take returns the next n (up to takeMax) bytes. They are valid until the next call.
func (in *inbox) take(n int) ([]byte, error) {
	if !in.buffered(n) {
		in.arm()
		if in.r+n > len(in.buf) {
			in.w = copy(in.buf, in.buf[in.r:in.w])
			in.r = 0
		}
	}
	for !in.buffered(n) {
		if err := in.fill(); err != nil {
			return nil, err
		}
	}
	b := in.buf[in.r : in.r+n : in.r+n]
	in.r += n
	return b, nil
}

// read fills p, past the inbox where it holds too little.
func (in *inbox) read(p []byte) error {
	for len(p) > 0 {
		part := p[:min(len(p), stride)]
		n := copy(part, in.buf[in.r:in.w])
		in.r += n
		if n < len(part) {
			in.arm()
			in.waits()
			if _, err := io.ReadFull(in.conn, part[n:]); err != nil {
				return err
			}
		}
		p = p[len(part):]
	}
	return nil
}

// discard skips n bytes.
func (in *inbox) discard(n uint64) error {
	for n > 0 {
		part := min(n, takeMax)
		if _, err := in.take(int(part)); err != nil {
			return err
		}
		n -= part
	}
	return nil
}

// fill reads what is there, at least one byte.
func (in *inbox) fill() error {
	if in.r == in.w {
		in.r, in.w = 0, 0
	}
	in.waits()
	n, err := in.conn.Read(in.buf[in.w:])
	in.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// arm gives what is awaited next StallTime to arrive.
func (in *inbox) arm() {
	in.armed = true
	in.setDeadline(time.Now().Add(in.stall))
}

func (in *inbox) setDeadline(t time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.interrupted {
		// A connection that cannot take a deadline is closed, which the read will say.
		_ = in.conn.SetReadDeadline(t)
	}
}

// guard calls gone if the client leaves before stop is called. Nothing is read
// meanwhile: the client is seen to leave whatever it has sent before.
func (in *inbox) guard(gone func()) (stop func()) {
	in.setDeadline(time.Time{})
	var watching sync.WaitGroup
	watching.Go(func() {
		if hungUp(in.conn) {
			gone()
		}
	})
	return func() {
		in.setDeadline(time.Unix(1, 0))
		watching.Wait()
		in.setDeadline(time.Time{})
		in.armed = false
	}
}

// hungUp waits until the other end of conn is closed, which it reports, or until the
// deadline for reading passes.
func hungUp(conn net.Conn) bool {
	c, ok := underneath(conn).(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	// Whatever happens on the connection lets the function be called again.
	err = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		gone = n > 0 && err == nil
		return gone
	})
	return gone && err == nil
}

// interrupt ends the reader's waiting now and for ever. Any goroutine may call it.
func (in *inbox) interrupt() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.interrupted = true
	_ = in.conn.SetReadDeadline(time.Unix(1, 0))
}
