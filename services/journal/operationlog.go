package journal

import "tidemark/events"

// loggedEntry is where an entry stands, and the time of its message.
type loggedEntry struct {
	position events.Position
	at       events.Instant
}

// logSafe logs an entry that is no change, and returns when it is safe. It does not wait
// for those that have paused the writer: the caller may be one.
func (w *writer) logSafe(e events.Entry) (loggedEntry, error) {
	var logged loggedEntry
	done := make(chan error, 1)
	w.mu.Lock()
	err := w.prepare(1)
	if err == nil {
		w.placeAt(e, &logged, completion{func(err error) { done <- err }, true})
	}
	w.mu.Unlock()
	if err != nil {
		return loggedEntry{}, err
	}
	err = <-done
	return logged, err
}

// logPair logs a start and its finish, with nothing between them, and returns when both
// are safe. With an error the start's position is zero unless that was logged.
func (w *writer) logPair(start events.Entry, finishOf func(started events.Position) events.Entry) (started, finished loggedEntry, err error) {
	done, begun := make(chan error, 1), make(chan error, 1)
	w.mu.Lock()
	err = w.prepare(2)
	if err == nil {
		w.placeAt(start, &started, completion{func(err error) { begun <- err }, false})
		w.placeAt(finishOf(started.position), &finished, completion{func(err error) { done <- err }, true})
	}
	w.mu.Unlock()
	if err != nil {
		return loggedEntry{}, loggedEntry{}, err
	}
	err = <-done
	if <-begun != nil {
		started.position = 0
	}
	return started, finished, err
}

// prepare makes sure that entries which are no changes can be placed. It is called under
// the lock.
func (w *writer) prepare(entries uint32) error {
	w.awaitRewound()
	if w.failure != nil {
		return w.failure
	}
	return w.begin(entries)
}

// placeAt places an entry and notes where: at once its position, and its message's time
// before c is completed. It asks the tail for no room: there is one such entry at a time,
// and it is not to stand in line behind the changes of clients. It is called under the lock.
func (w *writer) placeAt(e events.Entry, logged *loggedEntry, c completion) {
	logged.position = events.At(w.tag, w.next)
	size := entryOverhead + len(events.EncodeEntry(e))
	b := w.place(e, size, c)
	b.reserved -= size
	b.published = &logged.at
}
