package nbd_test

import (
	"runtime"
	"testing"
	"time"

	"tidemark/internal/nbd"
	"tidemark/internal/nbd/nbdtest"
	"tidemark/internal/nbd/wire"
)

// tight are limits under which two requests of 32 MiB use up the budget.
func tight() nbd.Limits {
	return nbd.Limits{PayloadMax: 32 << 20, BytesPerConn: 32 << 20, BytesTotal: 64 << 20, DrainTime: time.Hour, StallTime: time.Hour}
}

func largeDisk() *nbdtest.Disk {
	return nbdtest.NewDisk(nbd.Info{Name: "disk", Size: 64 << 20})
}

func read(cookie uint64, n uint32) wire.Request {
	return wire.Request{Command: wire.CmdRead, Cookie: cookie, Length: n}
}

// exhaust lets two connections hold the whole budget, until they leave at release.
func exhaust(t *testing.T, s *running, d *nbdtest.Disk) (release func()) {
	t.Helper()
	unhold := d.Hold()
	a, b := s.simple(t), s.simple(t)
	a.request(read(1, 32<<20), nil)
	b.request(read(1, 32<<20), nil)
	arrived(t, d, 2)
	return func() {
		unhold()
		_ = a.conn.Close()
		_ = b.conn.Close()
	}
}

func TestBytesInFlightAreBoundedOverAllConnections(t *testing.T) {
	const conns, size = 24, 30 << 20
	d := largeDisk()
	s := serve(t, tight(), d)
	good := s.simple(t)
	payload := make([]byte, size-1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	bad := make([]*raw, conns)
	sent := make(chan struct{}, conns)
	for i := range bad {
		c := s.simple(t)
		bad[i] = c
		c.send(write(1, size).Append(nil))
		go func() {
			_, _ = c.conn.Write(payload) // most are not read to the end
			sent <- struct{}{}
		}()
	}
	small := append(write(7, 4096).Append(nil), make([]byte, 4096)...)
	for through := 0; through < 2; { // the budget's worth of them
		good.send(small)
		if got := good.errno(7); got != 0 {
			t.Fatalf("WRITE meanwhile: %v", got)
		}
		select {
		case <-sent:
			through++
		default:
		}
	}
	runtime.ReadMemStats(&after)
	// A buffer grows by way of smaller ones, and a connection has about 400 KiB.
	if got := after.TotalAlloc - before.TotalAlloc; got > 2*64<<20+conns<<20 {
		t.Errorf("allocated %d MiB", got>>20)
	}
	for _, c := range bad {
		_ = c.conn.Close()
	}
	for range conns - 2 {
		<-sent
	}
	// All of the budget can be had again.
	exhaust(t, s, d)()
	good.alive()
}

func TestSmallRequestsDoNotWaitForTheBudget(t *testing.T) {
	d, other := largeDisk(), named("other")
	s := serve(t, tight(), d, other)
	defer exhaust(t, s, d)()
	c := s.dial(t).hello()
	c.expect(wire.RepAck, wire.OptGo, export("other"))
	for range 10 { // one at a time
		c.request(read(1, 256<<10), nil)
		c.recv(wire.SimpleSize + 256<<10)
	}
	for range 10 { // more than may be there at a time
		for range 16 {
			c.request(write(2, 64<<10), make([]byte, 64<<10))
		}
		for range 16 {
			c.errno(2)
		}
	}
	release := other.Hold() // the second waits for the first, and not for others
	c.request(read(3, 256<<10), nil)
	c.request(read(4, 256<<10), nil)
	arrived(t, other, 1)
	quiet(t, other)
	release()
	c.recv(2 * (wire.SimpleSize + 256<<10))
}

func TestLargeRequestsWaitForTheBudget(t *testing.T) {
	d := largeDisk()
	s := serve(t, tight(), d)
	release := exhaust(t, s, d)
	reader, writer := s.simple(t), s.simple(t)
	reader.request(read(1, 1<<20), nil)
	data := make([]byte, 1<<20)
	sent := make(chan error, 1)
	go func() {
		_, err := writer.conn.Write(append(write(2, 1<<20).Append(nil), data...))
		sent <- err
	}()
	quiet(t, d)
	release()
	reader.recv(wire.SimpleSize + 1<<20)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if got := writer.errno(2); got != 0 {
		t.Errorf("WRITE: %v", got)
	}
	reader.alive()
	writer.alive()
}

func TestShutdownDoesNotWaitForTheBudget(t *testing.T) {
	d, other := largeDisk(), nbdtest.NewDisk(nbd.Info{Name: "other", Size: 64 << 20})
	s := serve(t, tight(), d, other)
	release := exhaust(t, s, d)
	var waiting []*raw
	for _, r := range []wire.Request{read(1, 1<<20), write(1, 300<<10)} {
		c := s.dial(t).hello()
		c.expect(wire.RepAck, wire.OptGo, export("other"))
		go func() { _, _ = c.conn.Write(append(r.Append(nil), make([]byte, 100)...)) }()
		waiting = append(waiting, c)
	}
	quiet(t, d)
	s.stop()
	if got := waiting[0].errno(1); got != wire.ESHUTDOWN {
		t.Errorf("READ that waited: %v", got)
	}
	waiting[1].gone() // its data never comes
	release()
	s.wait(t)
}

func TestVanishedClientDoesNotWaitForTheBudget(t *testing.T) {
	d, other := largeDisk(), nbdtest.NewDisk(nbd.Info{Name: "other", Size: 64 << 20})
	s := serve(t, tight(), d, other)
	defer exhaust(t, s, d)()
	for _, more := range []int{0, 100, 1 << 20} {
		c := s.dial(t).hello()
		c.expect(wire.RepAck, wire.OptGo, export("other"))
		_ = c.conn.SetWriteDeadline(time.Now().Add(30 * time.Millisecond)) // not all of it is read
		_, _ = c.conn.Write(append(write(1, 2<<20).Append(nil), make([]byte, more)...))
		_ = c.conn.Close()
	}
	deadline := time.After(patience)
	for closed := 0; closed < 3; {
		select {
		case <-deadline:
			t.Fatalf("%d of 3 sessions ended", closed)
		default:
			runtime.Gosched()
			_, closed = other.Sessions()
		}
	}
}

func TestAbandonedRequestsGiveTheirBytesBack(t *testing.T) {
	d := largeDisk()
	l := tight()
	l.StallTime = 500 * time.Millisecond
	s := serve(t, l, d)
	for range 3 { // replies that nobody takes, data that does not come
		s.simple(t).request(read(1, 32<<20), nil)
		s.simple(t).request(write(1, 32<<20), make([]byte, 1000))
	}
	deadline := time.After(patience)
	for closed := 0; closed < 6; {
		select {
		case <-deadline:
			t.Fatalf("%d of 6 sessions ended", closed)
		default:
			runtime.Gosched()
			_, closed = d.Sessions()
		}
	}
	exhaust(t, s, d)()
}
