package journal

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// Buffers of messages have from 4 KiB to 1 MiB, four sizes to each doubling: an entry of
// full size, whose data are a power of two, does not take the double.
const (
	smallestBuffer = 4 << 10
	bufferClasses  = 8*4 + 1 // a message just below BatchBytesMax with one entry more lies below 1 MiB
)

// bufferSize returns how large the buffers of a class are, in bytes.
func bufferSize(class int) int { return (4 + class%4) << (class / 4) * (smallestBuffer / 4) }

// bufferClass returns the smallest class for n bytes; above the last one there is none.
func bufferClass(n int) int {
	n = max(n, smallestBuffer)
	doubling := bits.Len(uint(n-1)) - 1
	quarter := 1 << (doubling - 2)
	return 4*(doubling-bits.Len(smallestBuffer)+1) + (n+quarter-1)/quarter - 4
}

// buffers lends memory for messages. Nothing is kept that the garbage collector finds
// idle.
type buffers struct {
	classes [bufferClasses]sync.Pool // of *[]byte, exactly that large
	// expected is what a message will likely take, in bytes: as much as the ones before.
	expected atomic.Int64
}

// get returns an empty buffer for at least n bytes, and for as many as are expected.
func (p *buffers) get(n int) []byte { return p.exactly(max(n, int(p.expected.Load()))) }

// exactly returns an empty buffer of the smallest class for n bytes.
func (p *buffers) exactly(n int) []byte {
	class := bufferClass(n)
	if class >= bufferClasses {
		return make([]byte, 0, n)
	}
	if b, ok := p.classes[class].Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 0, bufferSize(class))
}

// fit returns a finished message in memory of which it fills at least three quarters, or
// the smallest there is: what waits to be applied must not take much more than what the
// tail counts, and the largest run must stay below [tail.RunBytesMax].
func (p *buffers) fit(msg []byte) []byte {
	before := p.expected.Load()
	p.expected.Store(max(int64(len(msg)), before-before/8))
	if cap(msg) <= smallestBuffer || len(msg) > cap(msg)/4*3 {
		return msg
	}
	small := append(p.exactly(len(msg)), msg...)
	p.put(msg)
	return small
}

// put takes a buffer back. One that grew to a size between the classes is let go: lent
// again, it would hold more than its class says.
func (p *buffers) put(b []byte) {
	class := bufferClass(cap(b))
	if class >= bufferClasses || cap(b) != bufferSize(class) {
		return
	}
	b = b[:0]
	p.classes[class].Put(&b)
}
