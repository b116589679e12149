package journal

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// Buffers of messages have powers of two bytes from 4 KiB.
const (
	smallestBuffer = 12
	largestBuffer  = 20 // a message just below BatchBytesMax with one entry more lies below 1 MiB
)

// buffers lends memory for messages. Nothing is kept that the garbage collector finds
// idle.
type buffers struct {
	classes [largestBuffer - smallestBuffer + 1]sync.Pool // of *[]byte, exactly that large
	// expected is what a message will likely take, in bytes: as much as the ones before.
	expected atomic.Int64
}

// get returns an empty buffer for at least n bytes, and for as many as are expected.
func (p *buffers) get(n int) []byte { return p.exactly(max(n, int(p.expected.Load()))) }

// exactly returns an empty buffer of the smallest class for n bytes.
func (p *buffers) exactly(n int) []byte {
	class := bits.Len(uint(max(n, 1<<smallestBuffer) - 1))
	if class > largestBuffer {
		return make([]byte, 0, n)
	}
	if b, ok := p.classes[class-smallestBuffer].Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 0, 1<<class)
}

// fit returns a finished message in memory of which it fills at least a half, or the
// smallest there is: what waits to be applied must not take much more than what the
// tail counts.
func (p *buffers) fit(msg []byte) []byte {
	before := p.expected.Load()
	p.expected.Store(max(int64(len(msg)), before-before/8))
	if cap(msg) <= 1<<smallestBuffer || len(msg) > cap(msg)/2 {
		return msg
	}
	small := append(p.exactly(len(msg)), msg...)
	p.put(msg)
	return small
}

// put takes a buffer back. One that grew to a size between the classes is let go: lent
// again, it would hold more than its class says.
func (p *buffers) put(b []byte) {
	class := bits.Len(uint(cap(b))) - 1
	if cap(b) != 1<<class || class < smallestBuffer || class > largestBuffer {
		return
	}
	b = b[:0]
	p.classes[class-smallestBuffer].Put(&b)
}
