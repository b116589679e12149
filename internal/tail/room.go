package tail

import (
	"context"
	"errors"
	"slices"
)

var (
	// ErrLostTail is returned when the log ends before what it had acknowledged.
	ErrLostTail = errors.New("the journal has lost messages that it had acknowledged")
	// ErrDiverged is returned when the log's history is not the replica's.
	ErrDiverged = errors.New("the journal holds another history")
)

// roomWaiter is one who waits for room.
type roomWaiter struct{ bytes int } // not empty, so that each has its own address

// Room waits until n bytes more may become unapplied, and promises them to the caller,
// who gives the promise back with [Tail.Return] after handing the bytes over (or giving
// them up). Who came first is served first. A single request larger than the bound is let
// through when nothing else is under way. For a run the promise is asked for as a whole,
// before its first part is logged.
func (t *Tail) Room(ctx context.Context, n int) error {
	t.mu.Lock()
	if t.failure == nil && len(t.line) == 0 && t.hasRoom(n) {
		t.reserved += n
		t.mu.Unlock()
		return nil
	}
	me := &roomWaiter{n}
	t.line = append(t.line, me)
	t.mu.Unlock()
	defer t.leave(me)
	return t.wait(ctx, func() bool {
		switch {
		case t.line[0] != me:
			return false
		case !t.hasRoom(n):
			t.wanted = t.lastSeq
			signal(t.syncWanted)
			return false
		}
		t.reserved += n
		return true
	})
}

// RoomAhead is [Tail.Room] for one who keeps all others from handing over what they were
// promised: it neither stands in line behind them nor counts what they hold, which would
// be to wait for itself.
func (t *Tail) RoomAhead(ctx context.Context, n int) error {
	return t.wait(ctx, func() bool {
		if t.unapplied > 0 && t.unapplied+n > UnappliedBytesMax {
			t.wanted = t.lastSeq
			signal(t.syncWanted)
			return false
		}
		t.reserved += n
		return true
	})
}

// leave takes somebody out of the line; the next one looks whether there is room.
func (t *Tail) leave(me *roomWaiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line = slices.DeleteFunc(t.line, func(w *roomWaiter) bool { return w == me })
	t.announce()
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
	if len(t.line) > 0 {
		t.announce()
	}
}
