package nbd_test

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"tidemark/internal/nbd"
	"tidemark/internal/nbd/nbdtest"
	"tidemark/internal/nbd/wire"
)

// onePipe is a listener that accepts one connection in memory.
type onePipe struct {
	conns chan net.Conn
	once  sync.Once
}

func (l *onePipe) Accept() (net.Conn, error) {
	if c, ok := <-l.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (l *onePipe) Close() error {
	l.once.Do(func() { close(l.conns) })
	return nil
}

func (l *onePipe) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

// feed sends input to a fresh server and takes whatever it answers, until the server
// has ended. It fails when that does not happen.
func feed(t *testing.T, input []byte) {
	t.Helper()
	d := nbdtest.NewDisk(nbd.Info{Name: "disk", Size: 256 << 10})
	s := nbd.New(nbd.Config{
		Exports: nbdtest.NewExports(d),
		Log:     slog.New(slog.DiscardHandler),
		Limits:  nbd.Limits{HandshakeTime: 5 * time.Second, StallTime: 5 * time.Second, DrainTime: 5 * time.Second},
	})
	ours, theirs := net.Pipe()
	l := &onePipe{conns: make(chan net.Conn, 1)}
	l.conns <- theirs
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(ctx, l)
	}()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, ours)
	}()
	_ = ours.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, _ = ours.Write(input)
	_ = ours.Close()
	_ = l.Close()
	for _, c := range []chan struct{}{ended, drained} {
		select {
		case <-c:
		case <-time.After(patience):
			t.Fatal("the server hangs")
		}
	}
	if opened, closed := d.Sessions(); opened != closed {
		t.Errorf("opened %d, closed %d", opened, closed)
	}
}

func clientFlags(f uint32) []byte { return binary.BigEndian.AppendUint32(nil, f) }

// golden are handshakes as clients really send them.
func golden() map[string][]byte {
	opt := func(b []byte, o wire.Option, data []byte) []byte { return wire.AppendOption(b, o, data) }
	all := export("disk", wire.InfoBlockSize, wire.InfoName, wire.InfoDescription)
	structured := opt(clientFlags(3), wire.OptStructuredReply, nil)
	return map[string][]byte{
		"nbdinfo":      opt(opt(opt(structured, wire.OptInfo, all), wire.OptListMetaContext, queries("disk")), wire.OptGo, all),
		"nbdinfo list": opt(opt(opt(opt(structured, wire.OptList, nil), wire.OptInfo, all), wire.OptListMetaContext, queries("disk")), wire.OptAbort, nil),
		"qemu":         opt(opt(opt(structured, 11, nil), wire.OptSetMetaContext, queries("disk", wire.BaseAllocation, "qemu:allocation-depth")), wire.OptGo, export("disk", wire.InfoBlockSize)),
		"nbd-client":   opt(opt(clientFlags(3), wire.OptStartTLS, nil), wire.OptExportName, []byte("disk")),
		"old":          opt(clientFlags(1), wire.OptExportName, nil),
	}
}

func FuzzHandshake(f *testing.F) {
	for _, b := range golden() {
		f.Add(b)
	}
	f.Add(clientFlags(4))
	f.Add(append(clientFlags(3), "IHAVEOPT\x00\x00\x00\x06\xff\xff\xff\xff\xff"...))
	f.Add(wire.AppendOption(clientFlags(3), wire.OptGo, []byte("\xff\xff\xff\xffdisk\x00\x01\x00\x03")))
	f.Fuzz(func(t *testing.T, b []byte) { feed(t, b) })
}

func FuzzTransmission(f *testing.F) {
	seed := func(rs ...wire.Request) {
		var b []byte
		for _, r := range rs {
			if b = r.Append(b); r.Command == wire.CmdWrite {
				b = append(b, make([]byte, r.Length)...)
			}
		}
		f.Add(true, b)
		f.Add(false, b)
	}
	for _, test := range refusals {
		if test.payload <= 4096 {
			seed(test.r)
		}
	}
	seed(wire.Request{Command: wire.CmdWrite, Length: 100}, wire.Request{Command: wire.CmdRead, Length: 4096},
		wire.Request{Command: wire.CmdFlush}, wire.Request{Command: wire.CmdBlockStatus, Length: 256 << 10},
		wire.Request{Command: wire.CmdTrim, Length: 65536}, wire.Request{Command: wire.CmdWriteZeroes, Flags: 1 << 4, Length: 1},
		wire.Request{Command: wire.CmdCache, Length: 1}, wire.Request{Command: wire.CmdDisconnect})
	seed(wire.Request{Command: wire.CmdRead, Length: 256 << 10}, wire.Request{Command: wire.CmdRead, Length: 70000, Offset: 3})
	f.Add(true, wire.Request{Command: wire.CmdWrite, Length: 200 << 10}.Append(nil))
	f.Fuzz(func(t *testing.T, structured bool, b []byte) {
		head := clientFlags(3)
		if structured {
			head = wire.AppendOption(head, wire.OptStructuredReply, nil)
			head = wire.AppendOption(head, wire.OptSetMetaContext, queries("disk", wire.BaseAllocation))
		}
		feed(t, append(wire.AppendOption(head, wire.OptGo, export("disk")), b...))
	})
}

// TestGoldenHandshakes keeps the seeds honest: what clients send must get through.
func TestGoldenHandshakes(t *testing.T) {
	s := serve(t, nbd.Limits{}, newDisk())
	for name, b := range golden() {
		c := s.dial(t)
		c.recv(18)
		c.send(b)
		want := name != "nbdinfo list" // that one only looks
		if want {
			c.send(wire.Request{Command: wire.CmdCache, Cookie: 0x7469646571756965}.Append(nil))
		}
		if err := c.conn.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c.conn)
		if err != nil {
			t.Fatal(err)
		}
		entered := len(got) > 8 && string(got[len(got)-8:]) == "tidequie"
		if entered != want {
			t.Errorf("%s: entered transmission: %v", name, entered)
		}
	}
}
