package journal

import (
	"errors"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
)

// markerAge is how long the mark of a flush waits for a message to ride with.
const markerAge = 50 * time.Millisecond

// marker keeps the mark that a client's flush leaves in the journal. It takes part in
// nothing: the flush itself is done when the log is safe.
type marker struct {
	changed bool      // something changed since the last mark
	wanted  bool      // a mark is to be placed before the next entry
	since   time.Time // when it was first wanted, or the log last refused what is owed
	flushed bool      // a client has flushed in this life
}

// flushed notes that a client flushed. Flushes without a change between them are one.
func (w *writer) flushed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := &w.marker
	m.flushed = true
	if n := len(w.queue); n > 0 {
		w.queue[n-1].forced = true
	}
	if m.changed && w.failure == nil {
		m.changed = false
		if !m.wanted {
			m.wanted, m.since = true, w.now()
		}
	}
	w.wake()
}

// owe has an entry placed before all that are placed from now on, and at once if the log
// takes it; a full one is asked again, and takes it before anything else.
func (w *writer) owe(e events.Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.owed = append(w.owed, e)
	w.wake()
}

// begin makes sure that the next entries have a place in one tag, and places what is owed
// and the mark of a flush before them. It is called under the lock.
func (w *writer) begin(entries uint32) error {
	before := uint32(len(w.owed))
	if w.marker.wanted {
		before++
	}
	if uint64(w.next)-1+uint64(entries+before) > uint64(w.maxEntry) {
		if err := w.roll(events.TagFull, completion{}); err != nil {
			return err
		}
	}
	for _, e := range w.owed {
		w.place(e, 0, completion{done: func(err error) {
			if errors.Is(err, bus.ErrFull) {
				w.owe(e)
			}
		}})
	}
	w.owed = nil
	if w.marker.wanted {
		w.marker.wanted = false
		w.place(events.Entry{Event: events.Flushed{}}, 0, completion{})
	}
	return nil
}

// ripeMarker places the mark of a flush that nothing has followed for markerAge, and what
// is owed, unless a full log has just refused that. Otherwise it returns how long until
// then, a negative time when there is none. It is called under the lock.
func (w *writer) ripeMarker() time.Duration {
	if !w.marker.wanted && len(w.owed) == 0 || w.paused > 0 || w.failure != nil {
		return -1
	}
	if left := markerAge - w.now().Sub(w.marker.since); left > 0 {
		return left
	}
	if w.begin(0) != nil {
		w.marker.wanted = false // the next change finds out too
	}
	return -1
}

// roll queues the claim of the tag that follows, behind everything that was placed. It
// is called under the lock.
func (w *writer) roll(reason events.TagReason, c completion) error {
	tag, err := w.tag.Next(w.tag.Site())
	if err != nil {
		return err
	}
	claim := &openBatch{tag: tag, claim: reason, forced: true}
	if c.done != nil {
		claim.completions = append(claim.completions, c)
	}
	w.queue = append(w.queue, claim)
	w.tag, w.next, w.cut = tag, 1, true
	w.wake()
	return nil
}
