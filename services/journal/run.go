package journal

import (
	"context"
	"sync/atomic"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/tail"
)

var errEarlier = fault.New(fault.Busy, "what was to come before it was refused")

// runBytesMax bounds the entries of a run, in bytes. In memory their messages take up to a
// third more.
const runBytesMax = tail.RunBytesMax / 4 * 3

// batchOverhead is what a message takes besides its entries, in bytes.
const batchOverhead = 128

// submitRun gives the parts of one change, in order, consecutive places in the log: all
// of them come to be, or none. done is called once when the last one is logged (or
// safe), or any has failed.
func (w *writer) submitRun(ctx context.Context, parts []change, done func(error)) {
	if len(parts) == 1 {
		w.submit(ctx, parts[0], done)
		return
	}
	w.submitParts(ctx, parts, nil, done)
}

// submitParts is submitRun also for one who has paused the writer: held is not nil then,
// and nothing is placed any more once it is set.
func (w *writer) submitParts(ctx context.Context, parts []change, held *atomic.Bool, done func(error)) {
	if len(parts) == 0 || len(parts) > events.PartsMax {
		done(fault.New(fault.Usage, "the request would take %d entries; 1 to %d are possible", len(parts), events.PartsMax))
		return
	}
	size := 0
	for i := range parts {
		size += parts[i].size()
	}
	if size > runBytesMax {
		done(fault.New(fault.Usage, "the request would take %d bytes of the journal; %d are possible", size, runBytesMax))
		return
	}
	room := w.tail.Room
	if held != nil { // those who have room wait for this one
		room = w.tail.RoomAhead
	}
	if err := room(ctx, size); err != nil {
		done(err)
		return
	}
	if err := w.enqueueRun(parts, size, held, done); err != nil {
		w.tail.Return(size)
		done(err)
	}
}

// enqueueRun places the parts under one lock, so that nothing comes between. A run that
// one message does not hold gets messages of its own: its neighbours are not to wait
// until it is complete. held is that of submitParts.
func (w *writer) enqueueRun(parts []change, size int, held *atomic.Bool, done func(error)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if held == nil {
		w.awaitTurn()
	} else if w.awaitRewound(); held.Load() {
		return errEarlier
	}
	for i := range parts {
		if err := w.admit(&parts[i], uint32(len(parts))); err != nil {
			return err
		}
	}
	room := w.settings.FlushBytes
	if n := len(w.queue); n > 0 && w.queue[n-1].claim == "" && w.queue[n-1].builder.Size()+size > room {
		w.cut = true
	}
	for i := range parts {
		part := events.Part{Index: uint32(i), Count: uint32(len(parts))}
		c := completion{}
		if part.Last() {
			c = completion{done, parts[i].safe}
		}
		if len(parts) == 1 {
			part = events.Part{}
		}
		w.record(&parts[i], part, parts[i].size(), c)
	}
	if len(parts) > 1 {
		w.cut = batchOverhead+size > room
	}
	return nil
}
