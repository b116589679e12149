package nbdclient

import (
	"context"

	"tidemark/internal/nbd/wire"
)

// zeroMax is the most that one TRIM or WRITE_ZEROES covers here, in bytes: the largest
// length on the wire that keeps any alignment.
const zeroMax = 1 << 30

// ReadAt fills p from off.
func (c *Conn) ReadAt(ctx context.Context, p []byte, off uint64) error {
	return c.pieces(uint64(len(p)), uint64(c.terms.payloadMax), func(at, n uint64) error {
		r := wire.Request{Command: wire.CmdRead, Offset: off + at, Length: uint32(n)}
		return c.do(ctx, &call{request: r, data: p[at : at+n]}, nil)
	})
}

// WriteAt writes p at off; with fua it is on stable storage when WriteAt returns nil.
func (c *Conn) WriteAt(ctx context.Context, p []byte, off uint64, fua bool) error {
	return c.pieces(uint64(len(p)), uint64(c.terms.payloadMax), func(at, n uint64) error {
		r := wire.Request{Command: wire.CmdWrite, Flags: c.fua(fua), Offset: off + at, Length: uint32(n)}
		return c.do(ctx, &call{request: r}, p[at:at+n])
	})
}

// Zero makes a range read as zeroes and keeps its space allocated; [wire.ENOTSUP] if
// the server cannot.
func (c *Conn) Zero(ctx context.Context, off, length uint64, fua bool) error {
	if c.terms.flags&wire.FlagSendWriteZeroes == 0 {
		return wire.ENOTSUP
	}
	return c.effect(ctx, wire.CmdWriteZeroes, wire.CmdFlagNoHole|c.fua(fua), off, length)
}

// Trim gives a range back; what it reads as afterwards is the server's to say.
// [wire.ENOTSUP] if the server cannot.
func (c *Conn) Trim(ctx context.Context, off, length uint64, fua bool) error {
	if c.terms.flags&wire.FlagSendTrim == 0 {
		return wire.ENOTSUP
	}
	return c.effect(ctx, wire.CmdTrim, c.fua(fua), off, length)
}

// Flush returns nil when every write that was answered before is on stable storage.
// [wire.ENOTSUP] if the server cannot: then there is no such promise to be had.
func (c *Conn) Flush(ctx context.Context) error {
	if c.terms.flags&wire.FlagSendFlush == 0 {
		return wire.ENOTSUP
	}
	return c.do(ctx, &call{request: wire.Request{Command: wire.CmdFlush}}, nil)
}

// Extents returns the state of every byte of a range, in order, neighbours in the same
// state joined; [wire.ENOTSUP] if the server does not know.
func (c *Conn) Extents(ctx context.Context, off, length uint64) ([]Extent, error) {
	if !c.terms.allocation {
		return nil, wire.ENOTSUP
	}
	var out []Extent
	for length > 0 {
		r := wire.Request{Command: wire.CmdBlockStatus, Offset: off, Length: uint32(min(length, zeroMax))}
		k := &call{request: r}
		if err := c.do(ctx, k, nil); err != nil {
			return nil, err
		}
		for _, e := range k.extents {
			off += e.Length
			length -= e.Length
			if n := len(out); n > 0 && out[n-1].Hole == e.Hole && out[n-1].Zero == e.Zero {
				out[n-1].Length += e.Length
			} else {
				out = append(out, e)
			}
		}
	}
	return out, nil
}

func (c *Conn) effect(ctx context.Context, cmd wire.Command, flags uint16, off, length uint64) error {
	return c.pieces(length, zeroMax, func(at, n uint64) error {
		r := wire.Request{Command: cmd, Flags: flags, Offset: off + at, Length: uint32(n)}
		return c.do(ctx, &call{request: r}, nil)
	})
}

func (c *Conn) fua(wanted bool) uint16 {
	if wanted {
		return wire.CmdFlagFUA
	}
	return 0
}

// pieces calls f for consecutive parts of a range, of at most largest bytes each, one
// after the other. An empty range is one empty part.
func (c *Conn) pieces(length, largest uint64, f func(at, n uint64) error) error {
	for at := uint64(0); ; {
		n := min(length-at, largest)
		if err := f(at, n); err != nil {
			return err
		}
		if at += n; at >= length {
			return nil
		}
	}
}
