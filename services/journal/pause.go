package journal

// open reports whether changes are taken, now or after a pause.
func (w *writer) open() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failure == nil
}

// close refuses all further changes, without an end of the writer itself.
func (w *writer) close(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure == nil {
		w.failure = err
	}
	w.changed.Broadcast()
}

// pause makes changes wait, and returns when none is on its way to the log and the
// caller has the directory to itself until it calls resume.
func (w *writer) pause() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused++
	w.wake() // what is held back goes out
	for (w.held || len(w.queue) > 0 || w.sealing) && w.failure == nil {
		w.changed.Wait()
	}
	if w.failure != nil {
		w.paused--
		w.changed.Broadcast()
		return w.failure
	}
	w.held = true
	return nil
}

func (w *writer) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused--
	w.held = false
	w.changed.Broadcast()
	w.wake()
}
