package nbd

import (
	"math/bits"
	"sync"
)

// Buffers come in powers of two from 4 KiB, each with room for a reply's header in
// front, so that header and data go out as one piece.
const (
	headroom       = 64
	smallestShift  = 12
	bufferClasses  = 19 // up to 1 GiB, the ceiling of Limits.PayloadMax
	largestClass   = bufferClasses - 1
	largestPayload = 1 << (smallestShift + largestClass)
)

// buffer is a piece of pooled memory.
type buffer struct {
	b     []byte
	class int
}

// buffers is a server's pool. Nothing else keeps buffers, so that the garbage collector
// takes those back that have not been of use for a while.
type buffers struct {
	classes [bufferClasses]sync.Pool
}

// classOf returns the class of buffers for n bytes.
func classOf(n int) int {
	if n <= 1<<smallestShift {
		return 0
	}
	return bits.Len(uint(n-1)) - smallestShift
}

// memoryFor returns how much memory, in bytes, a request for n bytes of data counts for:
// where that makes a difference, its buffer.
func memoryFor(n int) int {
	if n <= takeMax {
		return n
	}
	return 1 << (classOf(n) + smallestShift)
}

// get returns a buffer for n bytes (up to largestPayload) beyond the headroom. Its
// content is whatever it was used for last.
func (p *buffers) get(n int) *buffer {
	class := classOf(n)
	if b, ok := p.classes[class].Get().(*buffer); ok {
		return b
	}
	return &buffer{b: make([]byte, headroom+1<<(class+smallestShift)), class: class}
}

// put takes a buffer back; nil is ignored.
func (p *buffers) put(b *buffer) {
	if b != nil {
		p.classes[b.class].Put(b)
	}
}

// data returns the buffer's n bytes beyond the headroom.
func (b *buffer) data(n int) []byte { return b.b[headroom : headroom+n] }

// size returns how many bytes there are beyond the headroom.
func (b *buffer) size() int { return len(b.b) - headroom }
