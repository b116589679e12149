package journal

import (
	"context"
)

// refuse gives up the changes that a full log did not take, and makes their positions
// free again: nobody has seen them. What was logged before stays; the directory goes on.
// Parts of a change that were logged already are void once anything follows them.
func (w *writer) refuse(ctx context.Context, err error, under *openBatch) error {
	w.mu.Lock()
	w.paused++
	w.rewinds = true
	lost := append([]*openBatch{under}, w.queue...)
	w.queue = nil
	w.mu.Unlock()
	w.giveUp(err, lost)
	// With everything logged applied, the replica knows the version of every object.
	err = w.tail.Drain(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.pending)
	w.tag, w.next, w.cut = w.mark.Position.Tag(), w.mark.Position.Entry()+1, true
	if w.within { // its parts hold room until something follows them, which may wait for just that
		w.marker.wanted = true
	}
	w.marker.since = w.now()
	w.paused--
	w.rewinds = false
	w.changed.Broadcast()
	return err
}

// giveUp completes changes that were not logged.
func (w *writer) giveUp(err error, lost []*openBatch) {
	for _, b := range lost {
		w.tail.Return(b.reserved)
		for _, c := range b.completions {
			c.done(err)
		}
	}
}

// fail refuses all further changes and completes those that were not logged. under is
// the batch that was on its way, or nil.
func (w *writer) fail(err error, under *openBatch) {
	w.mu.Lock()
	w.failure = err
	lost := w.queue
	if under != nil {
		lost = append([]*openBatch{under}, lost...)
	}
	w.queue = nil
	w.sealing = false
	w.changed.Broadcast()
	w.mu.Unlock()
	w.giveUp(err, lost)
}
