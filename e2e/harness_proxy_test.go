package e2e_test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// link is a TCP connection between sites that can fail. New ones are open.
type link struct {
	address string // where it listens
	target  string
	rate    atomic.Int64 // bytes per second to the client; zero: no bound
	carried atomic.Int64 // bytes, in both directions

	mu     sync.Mutex
	cut    bool
	silent bool
	change chan struct{} // closed and replaced when cut or silent changes
	conns  map[net.Conn]bool
}

// newLink listens for connections to target.
func newLink(t testing.TB, target string, rate int) *link {
	t.Helper()
	l := &link{target: target, change: make(chan struct{}), conns: map[net.Conn]bool{}}
	l.rate.Store(int64(rate))
	var listener net.Listener
	await(t, patience, "a link listens", func() (err error) {
		l.address = freePort(t)
		listener, err = net.Listen("tcp", l.address)
		return err
	})
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { l.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		l.set(true, false)
		serving.Wait()
	})
	return l
}

// sever closes every connection and refuses new ones: a link whose ends are told.
func (l *link) sever() { l.set(true, false) }

// silence keeps the connections, but nothing passes: a black hole.
func (l *link) silence() { l.set(false, true) }

// heal lets everything pass again. What waited in a black hole arrives, as TCP has it.
func (l *link) heal() { l.set(false, false) }

// slowDown waits until the link has carried some bytes, and slows it down then, so that what
// is to be met in the middle of its way is still on it when a busy machine comes to look.
func (l *link) slowDown(t testing.TB, bytes int64, rate int) {
	t.Helper()
	awaitEvery(t, fastPoll, patience, "the link carries something", func() error {
		return unless(l.carried.Load() >= bytes, "%d bytes of %d", l.carried.Load(), bytes)
	})
	l.rate.Store(int64(rate))
}

func (l *link) set(cut, silent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.silent = cut, silent
	close(l.change)
	l.change = make(chan struct{})
	if cut {
		for conn := range l.conns {
			_ = conn.Close()
		}
	}
}

// adopt notes a connection; false means that the link is cut.
func (l *link) adopt(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		_ = conn.Close()
		return false
	}
	l.conns[conn] = true
	return true
}

func (l *link) forget(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
	_ = conn.Close()
}

func (l *link) serve(client net.Conn) {
	if !l.adopt(client) {
		return
	}
	defer l.forget(client)
	server, err := net.Dial("tcp", l.target)
	if err != nil || !l.adopt(server) {
		return
	}
	defer l.forget(server)
	ended := make(chan struct{}, 2)
	pass := func(to, from net.Conn, rate *atomic.Int64) {
		l.copy(to, from, rate)
		_ = to.Close()
		ended <- struct{}{}
	}
	go pass(server, client, new(atomic.Int64))
	go pass(client, server, &l.rate)
	<-ended
	_ = client.Close()
	_ = server.Close()
	<-ended
}

// copy passes bytes on, whenever the link lets them.
func (l *link) copy(to io.Writer, from io.Reader, rate *atomic.Int64) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			l.carried.Add(int64(n))
			l.awaitSound()
			if bound := rate.Load(); bound > 0 {
				<-time.After(time.Duration(n) * time.Second / time.Duration(bound))
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *link) awaitSound() {
	for {
		l.mu.Lock()
		silent, change := l.silent, l.change
		l.mu.Unlock()
		if !silent {
			return
		}
		<-change
	}
}
