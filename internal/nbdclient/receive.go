package nbdclient

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"tidemark/internal/nbd/wire"
)

// receive takes replies until the connection breaks, then answers whatever is open.
func (c *Conn) receive() {
	defer close(c.done)
	var err error
	for err == nil {
		err = c.reply()
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the NBD server closed the connection: %w", io.ErrUnexpectedEOF)
	}
	c.fail(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	for cookie, k := range c.calls {
		delete(c.calls, cookie)
		k.done <- c.broken
	}
}

// reply takes one simple reply or one chunk.
func (c *Conn) reply() error {
	var b [wire.StructuredSize]byte
	if _, err := io.ReadFull(c.r, b[:wire.SimpleSize]); err != nil {
		return err
	}
	cookie := binary.BigEndian.Uint64(b[8:])
	c.mu.Lock()
	k := c.calls[cookie]
	c.mu.Unlock()
	if k == nil {
		return errors.New("the NBD server answered a request that nobody made")
	}
	switch magic := binary.BigEndian.Uint32(b[:]); {
	case magic == wire.MagicSimple:
		return c.simple(k, Errno(binary.BigEndian.Uint32(b[4:])))
	case magic != wire.MagicStructured || !c.terms.structured:
		return errors.New("the NBD server's reply has the wrong magic")
	}
	if _, err := io.ReadFull(c.r, b[wire.SimpleSize:]); err != nil {
		return err
	}
	length := binary.BigEndian.Uint32(b[16:])
	if err := c.chunk(k, wire.ChunkType(binary.BigEndian.Uint16(b[6:])), length); err != nil {
		return err
	}
	if binary.BigEndian.Uint16(b[4:])&wire.ChunkDone == 0 {
		return nil
	}
	switch {
	case k.err != nil:
	case k.request.Command == wire.CmdRead && k.filled != uint64(len(k.data)):
		return errors.New("the NBD server's reply leaves some of the data out")
	case k.request.Command == wire.CmdBlockStatus && len(k.extents) == 0:
		return errors.New("the NBD server's reply has no extents")
	}
	c.answer(k, k.err)
	return nil //nolint:nilerr // the error goes to the caller of the request
}

// simple takes the rest of a simple reply.
func (c *Conn) simple(k *call, errno Errno) error {
	structuredOnly := k.request.Command == wire.CmdRead && c.terms.structured || k.request.Command == wire.CmdBlockStatus
	if structuredOnly && (errno == 0 || k.request.Command == wire.CmdRead) {
		return errors.New("the NBD server sent a simple reply where a structured one was agreed")
	}
	if errno != 0 {
		c.answer(k, errno)
		return nil
	}
	if _, err := io.ReadFull(c.r, k.data); err != nil {
		return err
	}
	c.answer(k, nil)
	return nil
}

// answer ends a call.
func (c *Conn) answer(k *call, err error) {
	c.mu.Lock()
	delete(c.calls, k.request.Cookie)
	c.mu.Unlock()
	k.done <- err
}

// textMax bounds the payload of an error chunk, in bytes.
const textMax = 64 << 10

// chunk takes the payload of a chunk.
func (c *Conn) chunk(k *call, kind wire.ChunkType, length uint32) error {
	switch {
	case kind == wire.ChunkNone && length == 0:
		return nil
	case kind == wire.ChunkOffsetData && length > 8:
		p, err := c.place(k, uint64(length-8))
		if err != nil {
			return err
		}
		_, err = io.ReadFull(c.r, p)
		return err
	case kind == wire.ChunkOffsetHole && length == 12:
		return c.hole(k)
	case kind == wire.ChunkBlockStatus && length >= 12 && length%8 == 4 && length <= 4+8<<20:
		return c.status(k, length)
	case kind&(1<<15) != 0 && length >= 6 && length <= textMax:
		return c.failure(k, length)
	}
	return fmt.Errorf("the NBD server sent a chunk of type %#x with %d bytes", kind, length)
}

// place reads a chunk's offset and returns where its n bytes go.
func (c *Conn) place(k *call, n uint64) ([]byte, error) {
	var b [8]byte
	if _, err := io.ReadFull(c.r, b[:]); err != nil {
		return nil, err
	}
	off := binary.BigEndian.Uint64(b[:]) - k.request.Offset
	size := uint64(len(k.data))
	if off > size || n > size-off || k.filled+n > size {
		return nil, errors.New("the NBD server sent data that was not asked for")
	}
	k.filled += n
	return k.data[off : off+n], nil
}

// hole takes a chunk that stands for zeroes.
func (c *Conn) hole(k *call) error {
	b, err := c.r.Peek(12)
	if err != nil {
		return err
	}
	n := uint64(binary.BigEndian.Uint32(b[8:]))
	p, err := c.place(k, n)
	if err != nil {
		return err
	}
	clear(p)
	_, err = c.r.Discard(4)
	return err
}

// status takes the extents of base:allocation.
func (c *Conn) status(k *call, length uint32) error {
	b := make([]byte, length)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return err
	}
	if k.request.Command != wire.CmdBlockStatus || binary.BigEndian.Uint32(b) != c.terms.context || k.extents != nil {
		return errors.New("the NBD server sent extents that were not asked for")
	}
	left := uint64(k.request.Length)
	for b = b[4:]; len(b) > 0; b = b[8:] {
		n, state := uint64(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint32(b[4:])
		if n == 0 || left == 0 {
			return errors.New("the NBD server sent extents that do not fit the request")
		}
		n = min(n, left) // the last may go beyond
		left -= n
		k.extents = append(k.extents, Extent{Length: n, Hole: state&wire.StateHole != 0, Zero: state&wire.StateZero != 0})
	}
	return nil
}

// failure takes an error chunk.
func (c *Conn) failure(k *call, length uint32) error {
	b := make([]byte, length)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return err
	}
	errno := Errno(binary.BigEndian.Uint32(b))
	n := uint32(binary.BigEndian.Uint16(b[4:]))
	if errno == 0 || n > length-6 {
		return errors.New("the NBD server sent a malformed error")
	}
	if k.err == nil {
		k.err = errno
		if n > 0 {
			k.err = fmt.Errorf("%w: %s", errno, b[6:6+n])
		}
	}
	return nil
}
