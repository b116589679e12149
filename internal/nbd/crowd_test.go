package nbd_test

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"tidemark/internal/nbd"
	"tidemark/internal/nbd/wire"
)

func TestHandshakeDeadline(t *testing.T) {
	s := serve(t, nbd.Limits{HandshakeTime: time.Second}, newDisk())
	silent, halfway := s.dial(t), s.dial(t).hello()
	halfway.send(wire.AppendOption(nil, wire.OptGo, export("disk"))[:20])
	silent.recv(18)
	silent.gone()
	halfway.gone()
	stays := s.simple(t)
	// The deadline of the handshake must not outlive it.
	late := s.dial(t)
	late.recv(18)
	late.gone()
	stays.alive()
}

func TestHandshakesBeyondTheLimitEvictTheOldest(t *testing.T) {
	d := newDisk()
	s := serve(t, nbd.Limits{Handshakes: 2}, d)
	oldest := s.dial(t).hello()
	oldest.expect(wire.RepAck, wire.OptInfo, export("disk")) // has a device open
	older := s.dial(t).hello()
	s.simple(t).alive()
	oldest.gone()
	older.expect(wire.RepAck, wire.OptGo, export("disk"))
	older.alive()
	s.stop()
	s.wait(t)
	if opened, closed := d.Sessions(); opened != 3 || closed != 3 {
		t.Errorf("opened %d, closed %d", opened, closed)
	}
}

func TestSilentConnectionsShutOutNobody(t *testing.T) {
	s := serve(t, nbd.Limits{HandshakeTime: time.Hour}, newDisk())
	stays := s.simple(t)
	for range 2 {
		for range 200 {
			s.dial(t)
		}
		s.simple(t).alive()
	}
	stays.alive()
}

func TestHandshakesMakeRoomForConnections(t *testing.T) {
	s := serve(t, nbd.Limits{Connections: 2, HandshakeTime: time.Hour}, newDisk())
	first, silent := s.simple(t), s.dial(t)
	silent.recv(18)
	second := s.simple(t)
	silent.gone()
	s.dial(t).gone()
	first.alive()
	second.alive()
}

// TestEvictionAtTheEndOfAHandshake lets connections come and be evicted in every state:
// whoever is told that it is through stays.
func TestEvictionAtTheEndOfAHandshake(t *testing.T) {
	d := newDisk()
	s := serve(t, nbd.Limits{Handshakes: 1}, d)
	hello := binary.BigEndian.AppendUint32(nil, wire.HandshakeFixedNewstyle|wire.HandshakeNoZeroes)
	hello = wire.AppendOption(hello, wire.OptGo, export("disk"))
	hello = wire.Request{Command: wire.CmdFlush, Cookie: 1}.Append(hello)
	want := 18 + wire.OptReplySize + 12 + wire.OptReplySize + wire.SimpleSize
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 50 {
				conn, err := net.Dial("unix", s.path)
				if err != nil {
					t.Error(err)
					return
				}
				_ = conn.SetDeadline(time.Now().Add(patience))
				_, _ = conn.Write(hello)
				b := make([]byte, want)
				if n, err := io.ReadFull(conn, b); n > 18 && err != nil {
					t.Errorf("cut off after %d bytes of %d: %v", n, want, err)
				}
				_ = conn.Close()
			}
		})
	}
	clients.Wait()
	s.stop()
	s.wait(t)
	if opened, closed := d.Sessions(); opened != closed {
		t.Errorf("opened %d, closed %d", opened, closed)
	}
}

func TestConnectionsBeyondTheLimitAreClosed(t *testing.T) {
	s := serve(t, nbd.Limits{Connections: 1}, newDisk())
	first := s.simple(t)
	s.dial(t).gone()
	first.alive()
}
