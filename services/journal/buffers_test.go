package journal

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"tidemark/events"
)

// Whatever sizes come and go, a message keeps its bytes and does not hold much more
// memory than it needs.
func TestBuffers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p buffers
		var kept [][]byte
		for range rapid.IntRange(1, 50).Draw(t, "messages") {
			n := rapid.IntRange(1, events.MessageBytesMax).Draw(t, "bytes")
			b := p.get(min(n, 100))
			if len(b) != 0 || cap(b) < min(n, 100) {
				t.Fatalf("a buffer of %d bytes with room for %d", len(b), cap(b))
			}
			fill := byte(n)
			b = append(b, bytes.Repeat([]byte{fill}, n)...)
			msg := p.fit(b)
			if len(msg) != n || msg[0] != fill || msg[n-1] != fill {
				t.Fatalf("%d bytes became %d", n, len(msg))
			}
			if cap(msg)/4 > max(n/3, smallestBuffer/4) {
				t.Fatalf("a message of %d bytes holds %d", n, cap(msg))
			}
			if kept = append(kept, msg); len(kept) > 3 {
				p.put(kept[0])
				kept = kept[1:]
			}
		}
		for i, a := range kept {
			for _, b := range kept[:i] {
				if &a[0] == &b[0] {
					t.Fatal("two messages share memory")
				}
			}
		}
	})
}

// Every class is the smallest one for its own size and for all above the one before.
func TestBufferClasses(t *testing.T) {
	before := 0
	for class := range bufferClasses {
		size := bufferSize(class)
		if size <= before || bufferClass(size) != class || bufferClass(before+1) != class {
			t.Errorf("class %d has %d bytes after %d: %d, %d", class, size, before, bufferClass(size), bufferClass(before+1))
		}
		before = size
	}
	if before != events.MessageBytesMax || bufferClass(before+1) != bufferClasses {
		t.Errorf("the last one has %d bytes", before)
	}
}
