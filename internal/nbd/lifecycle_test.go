package nbd_test

import (
	"net"
	"testing"
	"time"

	"tidemark/internal/nbd"
	"tidemark/internal/nbd/nbdtest"
	"tidemark/internal/nbd/wire"
)

// arrived waits until the disk holds n requests back.
func arrived(t *testing.T, d *nbdtest.Disk, n int) {
	t.Helper()
	for range n {
		select {
		case <-d.Arrived():
		case <-time.After(patience):
			t.Fatal("a request does not reach the disk")
		}
	}
}

// quiet shows that no further request reaches the disk for a moment.
func quiet(t *testing.T, d *nbdtest.Disk) {
	t.Helper()
	select {
	case <-d.Arrived():
		t.Fatal("a request reached the disk in spite of the limit")
	case <-time.After(30 * time.Millisecond):
	}
}

func write(cookie uint64, n uint32) wire.Request {
	return wire.Request{Command: wire.CmdWrite, Cookie: cookie, Length: n}
}

func TestDisconnectFinishesOutstandingRequests(t *testing.T) {
	d := newDisk()
	c := serve(t, nbd.Limits{}, d).simple(t)
	release := d.Hold()
	c.request(write(1, 4), []byte("data"))
	c.request(wire.Request{Command: wire.CmdRead, Cookie: 2, Length: 4}, nil)
	arrived(t, d, 2)
	c.request(wire.Request{Command: wire.CmdDisconnect}, nil)
	quiet(t, d)
	if _, closed := d.Sessions(); closed != 0 {
		t.Error("the device was closed with requests outstanding")
	}
	release()
	// The two may be answered in any order.
	c.recv(2*wire.SimpleSize + 4)
	c.gone()
	if opened, closed := d.Sessions(); opened != 1 || closed != 1 {
		t.Errorf("opened %d, closed %d", opened, closed)
	}
}

func TestVanishedClientLeavesNothingBehind(t *testing.T) {
	for name, vanish := range map[string]func(c *raw){
		"between requests": func(*raw) {},
		"within a header":  func(c *raw) { c.send(write(1, 4).Append(nil)[:5]) },
		"within a payload": func(c *raw) { c.request(write(1, 1<<20), make([]byte, 1000)) },
		"with replies unread": func(c *raw) {
			for range 100 {
				c.request(wire.Request{Command: wire.CmdRead, Length: diskSize}, nil)
			}
		},
	} {
		d := newDisk()
		s := serve(t, nbd.Limits{}, d)
		c := s.simple(t)
		vanish(c)
		if err := c.conn.Close(); err != nil {
			t.Fatal(err)
		}
		s.stop()
		s.wait(t)
		if opened, closed := d.Sessions(); opened != 1 || closed != 1 {
			t.Errorf("%s: opened %d, closed %d", name, opened, closed)
		}
	}
}

func TestRequestsBeyondTheLimitAreNotRead(t *testing.T) {
	d := newDisk()
	c := serve(t, nbd.Limits{RequestsPerConn: 3}, d).simple(t)
	release := d.Hold()
	for i := range 5 {
		c.request(write(uint64(i), 4), []byte("data"))
	}
	arrived(t, d, 3)
	quiet(t, d)
	release()
	for range 5 {
		c.recv(wire.SimpleSize)
	}
	c.alive()
}

func TestBytesBeyondTheLimitAreNotRead(t *testing.T) {
	d := newDisk()
	c := serve(t, nbd.Limits{PayloadMax: 1 << 20, BytesPerConn: 1 << 20}, d).simple(t)
	release := d.Hold()
	for i := range 3 {
		c.request(wire.Request{Command: wire.CmdRead, Cookie: uint64(i), Length: 512 << 10}, nil)
	}
	arrived(t, d, 2)
	quiet(t, d)
	release()
	c.recv(3 * (wire.SimpleSize + 512<<10))
	c.alive()
}

func TestShutdownAnswersWhatIsInFlightAndRefusesTheRest(t *testing.T) {
	d := newDisk()
	s := serve(t, nbd.Limits{}, d)
	c, idle := s.simple(t), s.simple(t)
	release := d.Hold()
	c.request(write(1, 4), []byte("data"))
	arrived(t, d, 1)
	s.stop()
	idle.gone()
	// Each session notices the end at some moment of its own.
	for got := wire.Errno(0); got != wire.ESHUTDOWN; got = c.errno(9) {
		c.request(wire.Request{Command: wire.CmdCache, Cookie: 9, Length: 1}, nil)
	}
	c.request(write(2, 4), []byte("late"))
	c.request(wire.Request{Command: wire.CmdRead, Cookie: 3, Length: 4}, nil)
	if got := c.errno(2); got != wire.ESHUTDOWN {
		t.Errorf("WRITE after the end began: %v", got)
	}
	if got := c.errno(3); got != wire.ESHUTDOWN {
		t.Errorf("READ after the end began: %v", got)
	}
	release()
	if got := c.errno(1); got != 0 {
		t.Errorf("WRITE in flight: %v", got)
	}
	c.gone()
	s.wait(t)
	if got := string(d.Bytes(0, 4)); got != "data" {
		t.Errorf("the disk holds %q", got)
	}
	if _, err := net.Dial("unix", s.path); err == nil {
		t.Error("the server still accepts")
	}
}

func TestShutdownDoesNotWaitForHalfARequest(t *testing.T) {
	d := newDisk()
	s := serve(t, nbd.Limits{DrainTime: time.Hour, StallTime: time.Hour}, d)
	small, large, header, greeting := s.simple(t), s.simple(t), s.simple(t), s.dial(t)
	small.request(write(1, 4), []byte("dat"))
	large.request(write(1, 200<<10), make([]byte, 1000))
	header.send(write(1, 4).Append(nil)[:9])
	greeting.hello()
	s.stop()
	for _, c := range []*raw{small, large, header, greeting} {
		c.gone()
	}
	s.wait(t)
}

func TestShutdownCancelsWhatDoesNotFinishInTime(t *testing.T) {
	d := newDisk()
	s := serve(t, nbd.Limits{DrainTime: 20 * time.Millisecond}, d)
	c := s.simple(t)
	defer d.Hold()()
	c.request(write(1, 4), []byte("data"))
	c.request(wire.Request{Command: wire.CmdRead, Cookie: 2, Length: 4}, nil)
	arrived(t, d, 2)
	s.stop()
	got := map[wire.Errno]int{}
	for range 2 {
		b := c.recv(wire.SimpleSize)
		got[wire.Errno(b[7])]++
	}
	if got[wire.ESHUTDOWN] != 2 {
		t.Errorf("answers %v", got)
	}
	c.gone()
	s.wait(t)
}

func TestEndedExportEndsItsSessionsOnly(t *testing.T) {
	d, other := newDisk(), named("other")
	s := serve(t, nbd.Limits{}, d, other)
	c := s.simple(t)
	bystander := s.dial(t).hello()
	bystander.expect(wire.RepAck, wire.OptGo, export("other"))
	release := d.Hold()
	c.request(wire.Request{Command: wire.CmdFlush, Cookie: 1}, nil)
	arrived(t, d, 1)
	d.End()
	// The end is noticed at some moment; from then on every request is refused.
	for cookie := uint64(2); ; cookie++ {
		c.request(wire.Request{Command: wire.CmdCache, Cookie: cookie, Length: 1}, nil)
		if got := c.errno(cookie); got == wire.ESHUTDOWN {
			break
		}
	}
	release()
	if got := c.errno(1); got != 0 {
		t.Errorf("FLUSH in flight: %v", got)
	}
	c.gone()
	bystander.alive()
}

func TestHalfARequestMustGoOn(t *testing.T) {
	s := serve(t, nbd.Limits{StallTime: 500 * time.Millisecond}, newDisk())
	header, payload, large, idle := s.simple(t), s.simple(t), s.simple(t), s.simple(t)
	header.send(write(1, 4).Append(nil)[:27])
	header.gone()
	payload.request(write(1, 4), []byte("dat"))
	payload.gone()
	large.request(write(1, 1<<20), make([]byte, 100<<10))
	large.gone()
	idle.alive() // has been idle for longer than that
}

func TestUntakenRepliesDropTheConnectionAndHarmNobody(t *testing.T) {
	d := newDisk()
	s := serve(t, nbd.Limits{StallTime: 500 * time.Millisecond}, d)
	lazy, other := s.simple(t), s.simple(t)
	for range 64 {
		lazy.request(wire.Request{Command: wire.CmdRead, Length: diskSize}, nil)
	}
	other.alive()
	deadline := time.After(patience)
	for closed := 0; closed == 0; {
		other.alive()
		select {
		case <-deadline:
			t.Fatal("the session of a client that takes no replies stays")
		default:
			_, closed = d.Sessions()
		}
	}
}

func TestMultiConnFlushSeesWhatOthersWrote(t *testing.T) {
	d := newDisk()
	d.Record()
	s := serve(t, nbd.Limits{}, d)
	a, b, c := s.simple(t), s.simple(t), s.simple(t)
	a.request(write(1, 4), []byte("tide"))
	a.errno(1)
	b.request(wire.Request{Command: wire.CmdFlush, Cookie: 2}, nil)
	b.errno(2)
	c.request(wire.Request{Command: wire.CmdRead, Cookie: 3, Length: 4}, nil)
	c.errno(3)
	if got := string(c.recv(4)); got != "tide" {
		t.Errorf("read %q", got)
	}
}
