package nbdclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"tidemark/internal/nbd/wire"
)

// ErrClosed is returned by calls on a connection after Close.
var ErrClosed = errors.New("the NBD connection is closed")

// Errno is the server's error number for a request that it refused or that failed;
// [errors.As] finds it in what the methods of [Conn] return.
type Errno = wire.Errno

// Extent is a run of bytes in one state.
type Extent struct {
	Length uint64 // bytes
	Hole   bool   // takes no space
	Zero   bool   // reads as zeroes
}

// Conn is a connection to one export.
type Conn struct {
	conn  net.Conn
	r     *bufio.Reader
	terms terms
	done  chan struct{} // closed when the receiver has ended

	sending sync.Mutex // held while a request goes out; taken before mu
	mu      sync.Mutex // guards what follows
	calls   map[uint64]*call
	cookie  uint64
	broken  error // why nothing works any more
}

// call is a request that waits for its reply.
type call struct {
	request wire.Request
	data    []byte   // READ: where the data goes
	filled  uint64   // READ: bytes that were answered
	extents []Extent // BLOCK_STATUS
	err     error    // the first error chunk
	done    chan error
}

// Dial connects to a server ("tcp" or "unix") and opens an export; the empty name is
// the server's default. ctx bounds the call, not the connection. A server that has no
// such export, or does not serve it now, is a [*RefusedError].
func Dial(ctx context.Context, network, address, export string) (*Conn, error) {
	h, letGo, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	t, err := h.enter(export)
	if stopped := letGo(); err == nil {
		err = stopped
	}
	if err != nil {
		return nil, fmt.Errorf("open NBD export %q: %w", export, errors.Join(err, h.conn.Close()))
	}
	c := &Conn{conn: h.conn, r: h.r, terms: t, done: make(chan struct{}), calls: make(map[uint64]*call)}
	go c.receive()
	return c, nil
}

// Size returns the export's size in bytes, as it was when the connection was made.
func (c *Conn) Size() uint64 { return c.terms.size }

// ReadOnly reports whether the export takes no writes.
func (c *Conn) ReadOnly() bool { return c.terms.flags&wire.FlagReadOnly != 0 }

// MultiConn reports whether the server promises that a flush on one connection counts
// for all.
func (c *Conn) MultiConn() bool { return c.terms.flags&wire.FlagCanMultiConn != 0 }

// Close tells the server that the session ends, waits until it has closed its side
// (then what it acknowledged is safe, if it keeps the custom) or ctx ends, and releases
// the connection. Calls in flight are answered by the server first.
func (c *Conn) Close(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.fail(context.Cause(ctx)) })
	defer stop()
	err := c.send(wire.Request{Command: wire.CmdDisconnect}, nil)
	if err == nil {
		<-c.done
		err = ctx.Err()
	}
	c.fail(ErrClosed)
	<-c.done
	if errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

// do sends a request and waits for its reply. If ctx ends first the connection is
// broken: a late reply must not write into memory that is the caller's again.
func (c *Conn) do(ctx context.Context, k *call, payload []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.done = make(chan error, 1)
	c.mu.Lock()
	if c.broken != nil {
		c.mu.Unlock()
		return c.broken
	}
	c.cookie++
	k.request.Cookie = c.cookie
	c.calls[c.cookie] = k
	c.mu.Unlock()
	if err := c.send(k.request, payload); err != nil {
		c.fail(err)
	}
	select {
	case err := <-k.done:
		return err
	case <-ctx.Done():
		c.fail(context.Cause(ctx))
		// The receiver ends at once, and answers all calls when it does.
		if err := <-k.done; err == nil || errors.As(err, new(Errno)) {
			return err
		}
		return ctx.Err()
	}
}

// send writes a request and the data that belongs to it.
func (c *Conn) send(r wire.Request, payload []byte) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.mu.Lock()
	err := c.broken
	c.mu.Unlock()
	if err != nil {
		return err
	}
	var scratch [wire.RequestSize]byte
	pieces := net.Buffers{r.Append(scratch[:0]), payload}
	if len(payload) == 0 {
		pieces = pieces[:1]
	}
	if _, err := pieces.WriteTo(c.conn); err != nil {
		return fmt.Errorf("send an NBD request: %w", err)
	}
	return nil
}

// fail breaks the connection; the first reason stays.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		c.broken = err
	}
	_ = c.conn.Close()
}
