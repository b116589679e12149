package nbd

import (
	"encoding/binary"
	"time"

	"tidemark/internal/nbd/wire"
)

// request is one request from its header to its written reply. Requests are reused;
// done is bound once, so that handing it to a device costs nothing.
type request struct {
	wire.Request
	session *session
	done    func(error) // complete
	started time.Time
	weight  int     // bytes that it counts for, in the connection's limit on bytes in flight
	memory  int     // bytes that it counts for, in the server's
	counted bool    // it has its part in the server's budget; else it is within freeBytes
	working bool    // the device was, or will be, given it
	buf     *buffer // holds reply when that carries data
	reply   []byte  // wire form
	head    [64]byte
}

// complete makes the reply of a change (or of anything else that answers with success
// or failure alone) and hands it to the writer.
func (r *request) complete(err error) {
	if err != nil {
		r.fail(err)
		return
	}
	r.reply = wire.AppendSimple(r.head[:0], 0, r.Cookie)
	r.session.answered(r, 0)
}

// fail makes the reply of an error.
func (r *request) fail(err error) {
	errno := Errno(err)
	if r.session.structured {
		text := explain(err, errno.Error())
		b := wire.AppendChunk(r.head[:0], wire.ChunkDone, wire.ChunkError, r.Cookie, uint32(6+len(text)))
		b = binary.BigEndian.AppendUint32(b, uint32(errno))
		b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
		r.reply = append(b, text...)
	} else {
		r.reply = wire.AppendSimple(r.head[:0], errno, r.Cookie)
	}
	r.session.answered(r, errno)
}

// dataHeader is what stands before the data of a READ, at most headroom bytes.
func (r *request) dataHeader(b []byte) []byte {
	switch {
	case !r.session.structured:
		return wire.AppendSimple(b, 0, r.Cookie)
	case r.Length == 0: // a data chunk must not be empty
		return wire.AppendChunk(b, wire.ChunkDone, wire.ChunkNone, r.Cookie, 0)
	}
	b = wire.AppendChunk(b, wire.ChunkDone, wire.ChunkOffsetData, r.Cookie, r.Length+8)
	return binary.BigEndian.AppendUint64(b, r.Offset)
}

// maxDescriptors bounds the extents in one answer; what lies beyond, a client asks for
// again. The protocol allows 2^20.
const maxDescriptors = 1 << 16

// status makes the answer to BLOCK_STATUS. Extents beyond the request and empty ones
// are cut off, equal neighbours joined; where nothing is known the status is 0, which
// promises nothing.
func (r *request) status(extents []Extent) []byte {
	const fixed = wire.StructuredSize + 4
	limit := maxDescriptors
	if r.Flags&wire.CmdFlagReqOne != 0 {
		limit = 1
	}
	b := make([]byte, fixed, fixed+8*min(len(extents)+1, limit))
	left := uint64(r.Length)
	var length uint64 // of the extent under way
	var state uint32
	count := 0
	flush := func() {
		if length > 0 && count < limit {
			b = binary.BigEndian.AppendUint32(b, uint32(length))
			b = binary.BigEndian.AppendUint32(b, state)
			count++
		}
	}
	for _, e := range extents {
		n := min(e.Length, left)
		if n == 0 {
			continue
		}
		left -= n
		if s := stateOf(e); s != state && length > 0 {
			flush()
			length, state = 0, s
		} else {
			state = s
		}
		if count == limit {
			break
		}
		length += n
	}
	flush()
	if count == 0 {
		length, state = uint64(r.Length), 0
		flush()
	}
	wire.AppendChunk(b[:0], wire.ChunkDone, wire.ChunkBlockStatus, r.Cookie, uint32(len(b)-wire.StructuredSize))
	binary.BigEndian.PutUint32(b[wire.StructuredSize:], allocationContext)
	return b
}

func stateOf(e Extent) uint32 {
	var s uint32
	if e.Hole {
		s |= wire.StateHole
	}
	if e.Zero {
		s |= wire.StateZero
	}
	return s
}
