package journal

import (
	"sync"

	"tidemark/events"
)

// sessionKey tells apart what NBD clients have open.
type sessionKey struct {
	image    events.ImageID
	snapshot events.SnapshotID // 0: the image itself
	readOnly bool
}

// session counts a client in; the returned function counts it out.
func (d *directory) session(key sessionKey) func() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sessions[key]++
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.sessions[key]--; d.sessions[key] == 0 {
			delete(d.sessions, key)
		}
	})
}

// count returns how many sessions are open on what is asked for.
func (d *directory) count(of func(sessionKey) bool) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for key, open := range d.sessions {
		if of(key) {
			n += open
		}
	}
	return n
}
