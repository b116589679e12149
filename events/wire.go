package events

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// FormatVersion is the version that this package writes, and the newest that it reads.
const FormatVersion = 1

// ErrCorrupt is returned for bytes that are not what they claim to be.
var ErrCorrupt = errors.New("corrupt message")

// ErrFormat is returned for a message of a newer format than this program knows.
var ErrFormat = errors.New("unknown message format")

// The msgpack type bytes that journal messages use. Header fields are written at full
// width, so that a header has one size and can be filled in after its entries.
const (
	mpArray32 = 0xdd
	mpFixMap  = 0x80
	mpMap16   = 0xde
	mpMap32   = 0xdf
	mpBin32   = 0xc6
	mpBin16   = 0xc5
	mpBin8    = 0xc4
	mpStr8    = 0xd9
	mpStr16   = 0xda
	mpUint8   = 0xcc
	mpUint16  = 0xcd
	mpUint32  = 0xce
	mpUint64  = 0xcf
	mpFalse   = 0xc2
	mpTrue    = 0xc3
)

func appendUint32(b []byte, v uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, mpUint32), v)
}

func appendUint64(b []byte, v uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, mpUint64), v)
}

// appendUint writes the shortest form.
func appendUint(b []byte, v uint64) []byte {
	switch {
	case v < 1<<7:
		return append(b, byte(v))
	case v < 1<<8:
		return append(b, mpUint8, byte(v))
	case v < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, mpUint16), uint16(v))
	case v < 1<<32:
		return appendUint32(b, uint32(v))
	default:
		return appendUint64(b, v)
	}
}

func appendArray(b []byte, n int) []byte {
	if n < 16 {
		return append(b, 0x90|byte(n))
	}
	return binary.BigEndian.AppendUint32(append(b, mpArray32), uint32(n))
}

func appendString(b []byte, s string) []byte {
	if len(s) < 32 {
		b = append(b, 0xa0|byte(len(s)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, mpStr16), uint16(len(s)))
	}
	return append(b, s...)
}

func appendBin(b, data []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, mpBin32), uint32(len(data)))
	return append(b, data...)
}

// reader parses msgpack out of a slice. Its first error sticks; after it every read
// returns zero. Nothing is allocated from a length that the bytes only claim.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrCorrupt, what)
	}
	r.b = nil
}

func (r *reader) take(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.b)) {
		r.fail("it ends too early")
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if s := r.take(1); s != nil {
		return s[0]
	}
	return 0
}

// bigEndian reads an unsigned number of n bytes.
func (r *reader) bigEndian(n uint64) uint64 {
	var v uint64
	for _, c := range r.take(n) {
		v = v<<8 | uint64(c)
	}
	return v
}

func (r *reader) uint() uint64 {
	c := r.byte()
	switch {
	case r.err != nil:
		return 0
	case c < 0x80:
		return uint64(c)
	case c >= mpUint8 && c <= mpUint64:
		return r.bigEndian(1 << (c - mpUint8))
	}
	r.fail("a number was expected")
	return 0
}

// limited reads a number that must not exceed limit.
func (r *reader) limited(limit uint64, what string) uint64 {
	v := r.uint()
	if v > limit {
		r.fail(what + " is out of range")
		return 0
	}
	return v
}

// array reads the header of an array; every element takes at least one byte, so a
// count above what is left is a lie.
func (r *reader) array() int {
	c := r.byte()
	var n uint64
	switch {
	case r.err != nil:
		return 0
	case c >= 0x90 && c <= 0x9f:
		n = uint64(c & 0x0f)
	case c == 0xdc:
		n = r.bigEndian(2)
	case c == mpArray32:
		n = r.bigEndian(4)
	default:
		r.fail("an array was expected")
		return 0
	}
	if n > uint64(len(r.b)) {
		r.fail("an array is longer than the message")
		return 0
	}
	return int(n)
}

func (r *reader) string() string {
	c := r.byte()
	switch {
	case r.err != nil:
		return ""
	case c >= 0xa0 && c <= 0xbf:
		return string(r.take(uint64(c & 0x1f)))
	case c == mpStr8:
		return string(r.take(r.bigEndian(1)))
	case c == mpStr16:
		return string(r.take(r.bigEndian(2)))
	}
	r.fail("a string was expected")
	return ""
}

func (r *reader) bool() bool {
	switch c := r.byte(); {
	case r.err != nil || c == mpFalse:
		return false
	case c == mpTrue:
		return true
	}
	r.fail("true or false was expected")
	return false
}

// bin returns a slice of the message itself.
func (r *reader) bin() []byte {
	switch c := r.byte(); {
	case r.err != nil:
		return nil
	case c == mpBin8:
		return r.take(r.bigEndian(1))
	case c == mpBin16:
		return r.take(r.bigEndian(2))
	case c == mpBin32:
		return r.take(r.bigEndian(4))
	}
	r.fail("binary data was expected")
	return nil
}

// skip passes over one value of any type that guard lets through.
func (r *reader) skip() {
	rest, err := skipValue(r.b, 0)
	if err != nil {
		r.fail(err.Error())
		return
	}
	r.b = rest
}
