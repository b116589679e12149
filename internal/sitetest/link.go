package sitetest

import (
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Link is a TCP link to a site's NATS that can fail. A new one is sound and fast.
type Link struct {
	URL    string // of the near end
	target string

	mu    sync.Mutex
	state linkState
	delay time.Duration // one way
	rate  int           // bytes per second each way and connection; zero: no bound
	conns map[*linkConn]bool
	total int64 // bytes that came from the far end
}

type linkState int

const (
	linkSound linkState = iota
	linkCut
	linkHole
)

// linkConn is one connection over the link. Lost is closed when nothing passes any more.
type linkConn struct {
	near, far net.Conn
	lost      chan struct{}
	once      sync.Once
}

// NewLink returns a link to the site at a URL, open until the test ends.
func NewLink(t testing.TB, to string) *Link {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{URL: "nats://" + listener.Addr().String(), target: u.Host, conns: map[*linkConn]bool{}}
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
		l.Cut()
		serving.Wait()
	})
	return l
}

// Cut ends every connection, and new ones as soon as they come: both ends are told.
func (l *Link) Cut() { l.set(linkCut) }

// BlackHole drops everything and tells nobody. The connections there are never carry
// anything again, as when TCP sends again after a long time only; nor do those that begin
// before the link is healed.
func (l *Link) BlackHole() { l.set(linkHole) }

// Heal lets new connections pass.
func (l *Link) Heal() { l.set(linkSound) }

// Slow delays everything by a time each way, and bounds the bytes per second of each
// connection, zero for no bound.
func (l *Link) Slow(delay time.Duration, rate int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay, l.rate = delay, rate
}

// Received returns how many bytes came from the far end.
func (l *Link) Received() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

func (l *Link) set(s linkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
	for c := range l.conns {
		if s == linkCut {
			c.close()
		} else if s == linkHole {
			c.lose()
		}
	}
}

func (c *linkConn) lose() { c.once.Do(func() { close(c.lost) }) }

func (c *linkConn) close() {
	c.lose()
	_ = c.near.Close()
	if c.far != nil {
		_ = c.far.Close()
	}
}

// adopt notes a connection; false means that the link is cut.
func (l *Link) adopt(c *linkConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == linkCut {
		return false
	}
	if l.state == linkHole {
		c.lose()
	}
	l.conns[c] = true
	return true
}

func (l *Link) serve(near net.Conn) {
	c := &linkConn{near: near, lost: make(chan struct{})}
	defer c.close()
	far, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	c.far = far
	if !l.adopt(c) {
		return
	}
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, c)
	}()
	var passing sync.WaitGroup
	passing.Go(func() { l.pass(c, far, near, false) })
	passing.Go(func() { l.pass(c, near, far, true) })
	passing.Wait()
}

type parcel struct {
	data []byte
	due  time.Time
}

// pass carries bytes one way until the connection ends. A lost one swallows them.
func (l *Link) pass(c *linkConn, to, from net.Conn, count bool) {
	under := make(chan parcel, 64)
	var carrying sync.WaitGroup
	carrying.Go(func() {
		for p := range under {
			<-time.After(time.Until(p.due))
			select {
			case <-c.lost:
				continue
			default:
			}
			if _, err := to.Write(p.data); err != nil {
				_ = from.Close()
			}
		}
		_ = to.Close()
	})
	free := time.Now() // when the link has carried what it was given
	for {
		data := make([]byte, 16<<10)
		n, err := from.Read(data)
		l.mu.Lock()
		delay, rate := l.delay, l.rate
		if count {
			l.total += int64(n)
		}
		l.mu.Unlock()
		if now := time.Now(); free.Before(now) {
			free = now
		}
		if rate > 0 {
			free = free.Add(time.Duration(n) * time.Second / time.Duration(rate))
		}
		if n > 0 {
			under <- parcel{data[:n], free.Add(delay)}
		}
		if err != nil {
			break
		}
	}
	close(under)
	carrying.Wait()
}
