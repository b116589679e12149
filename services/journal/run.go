package journal

import (
	"context"

	"tidemark/events"
	"tidemark/internal/fault"
)

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
	if len(parts) > events.PartsMax {
		done(fault.New(fault.Usage, "the request is too large: it would take %d entries, the most is %d", len(parts), events.PartsMax))
		return
	}
	size := 0
	for i := range parts {
		size += parts[i].size()
	}
	if err := w.tail.Room(ctx, size); err != nil {
		done(err)
		return
	}
	if err := w.enqueueRun(parts, size, done); err != nil {
		w.tail.Return(size)
		done(err)
	}
}

// enqueueRun places the parts under one lock, so that nothing comes between. A run that
// one message does not hold gets messages of its own: its neighbours are not to wait
// until it is complete.
func (w *writer) enqueueRun(parts []change, size int, done func(error)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.awaitTurn()
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
		w.record(&parts[i], part, parts[i].size(), c)
	}
	w.cut = batchOverhead+size > room
	return nil
}
