package nbd

import (
	"container/list"
	"context"
	"errors"
	"net"
	"sync"
)

// errEvicted says that a connection was closed to make room for a newer one.
var errEvicted = errors.New("the connection made room for a newer one")

// leavingMax is how many evicted connections may be about to end at a time. Most end
// within microseconds; who waits for a device takes longer, and is not to pile up.
const leavingMax = 256

// door counts a server's connections and knows those that are before the end of their
// handshake. It never lets anybody wait: where there is no room, the oldest of these
// makes some. A good client is through in milliseconds, so that those which send
// nothing shut out only each other.
type door struct {
	places     int // how many connections there may be
	handshakes int // how many of them before the end of their handshake

	mu       sync.Mutex // guards what follows, and the visitors' state
	open     int        // visitors that have a place
	leaving  int        // visitors that were evicted and have not ended yet
	greeting list.List  // of *visitor: before the end of their handshake, oldest first
}

// visitor is an accepted connection.
type visitor struct {
	conn    net.Conn
	cancel  context.CancelFunc // ends the context of the handshake
	element *list.Element      // in door.greeting; nil when not there
	evicted bool
}

// admit gives v a place, in handshake. If another had to make room, it is returned and
// the caller cuts it off. ok is false when v gets no place.
func (d *door) admit(v *visitor) (evicted *visitor, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	full := d.open >= d.places
	if d.leaving >= leavingMax || full && d.greeting.Len() == 0 {
		return nil, false
	}
	if full || d.greeting.Len() >= d.handshakes {
		evicted = d.greeting.Front().Value.(*visitor) //nolint:errcheck // the list holds nothing else
		d.forget(evicted)
		evicted.evicted = true
		d.open--
		d.leaving++
	}
	d.open++
	v.element = d.greeting.PushBack(v)
	return evicted, true
}

// greeted says that v's handshake is over: from now on it is not evicted. It reports
// false if it was already.
func (d *door) greeted(v *visitor) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(v)
	return !v.evicted
}

// leave takes v off the books, when it has ended.
func (d *door) leave(v *visitor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(v)
	if v.evicted {
		d.leaving--
	} else {
		d.open--
	}
}

// forget takes v off the list of handshakes. The caller holds mu.
func (d *door) forget(v *visitor) {
	if v.element != nil {
		d.greeting.Remove(v.element)
		v.element = nil
	}
}

// cutOff ends v's handshake, wherever it is.
func (v *visitor) cutOff() {
	v.cancel()
	_ = v.conn.Close()
}
