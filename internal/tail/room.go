package tail

import (
	"context"
	"errors"
)

var (
	// ErrLostTail is returned when the log ends before what it had acknowledged.
	ErrLostTail = errors.New("the journal has lost messages that it had acknowledged")
	// ErrDiverged is returned when the log's history is not the replica's.
	ErrDiverged = errors.New("the journal holds another history")
)

// Room waits until n bytes more may become unapplied, and promises them to the caller,
// who gives the promise back with [Tail.Return] after handing the bytes over (or giving
// them up). A single request larger than the bound is let through when nothing else is
// under way.
func (t *Tail) Room(ctx context.Context, n int) error {
	t.mu.Lock()
	if t.failure == nil && t.hasRoom(n) {
		t.reserved += n
		t.mu.Unlock()
		return nil
	}
	t.mu.Unlock()
	return t.wait(ctx, func() bool {
		if !t.hasRoom(n) {
			t.crowded = true
			t.wanted = t.lastSeq
			signal(t.syncWanted)
			return false
		}
		t.reserved += n
		return true
	})
}

// hasRoom is called under the lock.
func (t *Tail) hasRoom(n int) bool {
	used := t.unapplied + t.reserved
	return used+n <= UnappliedBytesMax || used == 0
}

// Return gives back what Room promised.
func (t *Tail) Return(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reserved -= n
	if t.crowded {
		t.crowded = false
		t.announce()
	}
}
