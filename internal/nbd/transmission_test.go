package nbd_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/fault"
	"tidemark/internal/nbd"
	"tidemark/internal/nbd/nbdtest"
	"tidemark/internal/nbd/wire"
)

func TestWriteThenRead(t *testing.T) {
	d := newDisk()
	c := serve(t, nbd.Limits{}, d).simple(t)
	for _, n := range []int{1, 512, 4096, 32 << 10, 32<<10 + 1, 64 << 10, 64<<10 + 1, 300 << 10, 1 << 20} {
		data := bytes.Repeat([]byte{byte(n), 7, byte(n >> 8)}, n)[:n]
		off := uint64(diskSize - n)
		c.request(wire.Request{Command: wire.CmdWrite, Cookie: 1, Offset: off, Length: uint32(n)}, data)
		if got := c.errno(1); got != 0 {
			t.Fatalf("WRITE of %d: %v", n, got)
		}
		c.request(wire.Request{Command: wire.CmdRead, Cookie: 2, Offset: off, Length: uint32(n)}, nil)
		if got := c.errno(2); got != 0 {
			t.Fatalf("READ of %d: %v", n, got)
		}
		if !bytes.Equal(c.recv(n), data) {
			t.Errorf("%d bytes read back wrong", n)
		}
	}
}

func TestStructuredReadIsOneChunk(t *testing.T) {
	c := serve(t, nbd.Limits{}, newDisk()).structured(t)
	data := bytes.Repeat([]byte("tide"), 20<<10)
	c.request(wire.Request{Command: wire.CmdWrite, Cookie: 1, Offset: 512, Length: uint32(len(data))}, data)
	if got := c.errno(1); got != 0 {
		t.Fatal(got)
	}
	for _, flags := range []uint16{0, wire.CmdFlagDF, wire.CmdFlagFUA} {
		c.request(wire.Request{Command: wire.CmdRead, Flags: flags, Cookie: 2, Offset: 512, Length: uint32(len(data))}, nil)
		want := chunk{done: true, kind: wire.ChunkOffsetData, payload: append(binary.BigEndian.AppendUint64(nil, 512), data...)}
		if diff := cmp.Diff(want, c.chunk(2), cmp.AllowUnexported(chunk{})); diff != "" {
			t.Error(diff)
		}
	}
}

// refusals are requests that get an error and keep the session.
var refusals = map[string]struct {
	r       wire.Request
	payload int
	want    wire.Errno
}{
	"read beyond the end":         {wire.Request{Command: wire.CmdRead, Offset: diskSize - 1, Length: 2}, 0, wire.EINVAL},
	"read that wraps around":      {wire.Request{Command: wire.CmdRead, Offset: math.MaxUint64, Length: 2}, 0, wire.EINVAL},
	"trim beyond the end":         {wire.Request{Command: wire.CmdTrim, Offset: 1, Length: diskSize}, 0, wire.EINVAL},
	"cache beyond the end":        {wire.Request{Command: wire.CmdCache, Offset: diskSize + 1}, 0, wire.EINVAL},
	"status beyond the end":       {wire.Request{Command: wire.CmdBlockStatus, Length: math.MaxUint32}, 0, wire.EINVAL},
	"write beyond the end":        {wire.Request{Command: wire.CmdWrite, Offset: diskSize - 1, Length: 2}, 2, wire.ENOSPC},
	"large write beyond the end":  {wire.Request{Command: wire.CmdWrite, Offset: 1, Length: diskSize}, diskSize, wire.ENOSPC},
	"write that wraps around":     {wire.Request{Command: wire.CmdWrite, Offset: math.MaxUint64 - 511, Length: 1024}, 1024, wire.ENOSPC},
	"zeroes beyond the end":       {wire.Request{Command: wire.CmdWriteZeroes, Offset: diskSize, Length: 1}, 0, wire.ENOSPC},
	"zeroes that wrap around":     {wire.Request{Command: wire.CmdWriteZeroes, Offset: math.MaxUint64, Length: math.MaxUint32}, 0, wire.ENOSPC},
	"unknown command with length": {wire.Request{Command: 8, Length: 4096}, 0, wire.EINVAL},
	"last command there could be": {wire.Request{Command: math.MaxUint16, Length: math.MaxUint32}, 0, wire.EINVAL},
	"unknown flag on read":        {wire.Request{Command: wire.CmdRead, Flags: 1 << 15, Length: 1}, 0, wire.EINVAL},
	"unknown flag on write":       {wire.Request{Command: wire.CmdWrite, Flags: wire.CmdFlagDF, Length: 3}, 3, wire.EINVAL},
	"unknown flag on flush":       {wire.Request{Command: wire.CmdFlush, Flags: wire.CmdFlagNoHole}, 0, wire.EINVAL},
	"no-hole on trim":             {wire.Request{Command: wire.CmdTrim, Flags: wire.CmdFlagNoHole, Length: 1}, 0, wire.EINVAL},
	"req-one on zeroes":           {wire.Request{Command: wire.CmdWriteZeroes, Flags: wire.CmdFlagReqOne, Length: 1}, 0, wire.EINVAL},
	"status of nothing":           {wire.Request{Command: wire.CmdBlockStatus}, 0, wire.EINVAL},
}

func TestRefusedRequestsKeepTheSession(t *testing.T) {
	d := newDisk()
	d.Record()
	s := serve(t, nbd.Limits{}, d)
	for name, test := range refusals {
		c := s.simple(t)
		test.r.Cookie = 3
		c.request(test.r, make([]byte, test.payload))
		if got := c.errno(3); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
		c.alive()

		c = s.structured(t)
		c.request(test.r, make([]byte, test.payload))
		got := c.chunk(3)
		if !got.done || got.kind != wire.ChunkError || wire.Errno(binary.BigEndian.Uint32(got.payload)) != test.want {
			t.Errorf("%s: %+v, want %v", name, got, test.want)
		}
		if n := binary.BigEndian.Uint16(got.payload[4:]); n == 0 || int(n) != len(got.payload)-6 {
			t.Errorf("%s: the error's text is malformed: %q", name, got.payload)
		}
		c.alive()
	}
	for _, op := range d.Ops() {
		if op.Kind != "flush" {
			t.Errorf("the disk was asked for %+v", op)
		}
	}
}

func TestDFNeedsStructuredReplies(t *testing.T) {
	c := serve(t, nbd.Limits{}, newDisk()).simple(t)
	c.request(wire.Request{Command: wire.CmdRead, Flags: wire.CmdFlagDF, Cookie: 1, Length: 1}, nil)
	if got := c.errno(1); got != wire.EINVAL {
		t.Error(got)
	}
}

func TestBlockStatusNeedsASelectedContext(t *testing.T) {
	c := serve(t, nbd.Limits{}, newDisk()).simple(t)
	c.request(wire.Request{Command: wire.CmdBlockStatus, Cookie: 1, Length: 1}, nil)
	if got := c.errno(1); got != wire.EINVAL {
		t.Error(got)
	}
}

func TestReadOnlyRefusesChanges(t *testing.T) {
	d := nbdtest.NewDisk(nbd.Info{Name: "disk", Size: diskSize, ReadOnly: true})
	d.Record()
	c := serve(t, nbd.Limits{}, d).simple(t)
	for _, cmd := range []wire.Command{wire.CmdWrite, wire.CmdTrim, wire.CmdWriteZeroes} {
		payload := []byte(nil)
		if cmd == wire.CmdWrite {
			payload = make([]byte, 100)
		}
		c.request(wire.Request{Command: cmd, Cookie: 1, Length: 100}, payload)
		if got := c.errno(1); got != wire.EPERM {
			t.Errorf("command %d: %v", cmd, got)
		}
	}
	c.alive()
	if diff := cmp.Diff([]nbdtest.Op{{Kind: "flush"}}, d.Ops()); diff != "" {
		t.Error(diff)
	}
}

func TestZeroLengthSucceeds(t *testing.T) {
	d := newDisk()
	d.Record()
	s := serve(t, nbd.Limits{}, d)
	c := s.simple(t)
	for _, cmd := range []wire.Command{wire.CmdRead, wire.CmdWrite, wire.CmdTrim, wire.CmdWriteZeroes, wire.CmdCache} {
		for _, off := range []uint64{0, diskSize} {
			c.request(wire.Request{Command: cmd, Cookie: 1, Offset: off}, nil)
			if got := c.errno(1); got != 0 {
				t.Errorf("command %d at %d: %v", cmd, off, got)
			}
		}
	}
	c = s.structured(t)
	c.request(wire.Request{Command: wire.CmdRead, Cookie: 1}, nil)
	if got := c.chunk(1); !got.done || got.kind != wire.ChunkNone || len(got.payload) != 0 {
		t.Errorf("structured READ of nothing: %+v", got)
	}
	if ops := d.Ops(); len(ops) != 0 {
		t.Errorf("the disk was asked for %v", ops)
	}
}

func TestPayloadLimit(t *testing.T) {
	d := nbdtest.NewDisk(nbd.Info{Name: "disk", Size: 8 << 20, BlockMax: 2 << 20})
	s := serve(t, nbd.Limits{PayloadMax: 4 << 20}, d)
	c := s.simple(t)
	c.request(wire.Request{Command: wire.CmdWrite, Cookie: 1, Length: 2 << 20}, make([]byte, 2<<20))
	if got := c.errno(1); got != 0 {
		t.Errorf("WRITE of the limit: %v", got)
	}
	c.request(wire.Request{Command: wire.CmdWrite, Cookie: 2, Length: 2<<20 + 1}, make([]byte, 2<<20+1))
	if got := c.errno(2); got != wire.EINVAL {
		t.Errorf("WRITE over the limit: %v", got)
	}
	c.request(wire.Request{Command: wire.CmdRead, Cookie: 3, Length: 2<<20 + 1}, nil)
	if got := c.errno(3); got != wire.EINVAL {
		t.Errorf("READ over the limit: %v", got)
	}
	c.request(wire.Request{Command: wire.CmdWriteZeroes, Cookie: 4, Length: 8 << 20}, nil)
	if got := c.errno(4); got != 0 {
		t.Errorf("WRITE_ZEROES of everything: %v", got)
	}
	c.request(wire.Request{Command: wire.CmdWrite, Length: math.MaxUint32}, nil)
	c.gone()
}

func TestChangesReachTheDeviceInOrderWithTheirFlags(t *testing.T) {
	d := newDisk()
	d.Record()
	c := serve(t, nbd.Limits{}, d).simple(t)
	var b []byte
	for i, r := range []wire.Request{
		{Command: wire.CmdWrite, Offset: 10, Length: 4},
		{Command: wire.CmdWriteZeroes, Flags: wire.CmdFlagNoHole | wire.CmdFlagFastZero | wire.CmdFlagFUA, Offset: 20, Length: 5},
		{Command: wire.CmdFlush, Flags: wire.CmdFlagFUA, Offset: 3, Length: 1},
		{Command: wire.CmdTrim, Flags: wire.CmdFlagFUA, Offset: 30, Length: 6},
		{Command: wire.CmdWriteZeroes, Offset: 40, Length: 7},
		{Command: wire.CmdWrite, Flags: wire.CmdFlagFUA, Offset: 10, Length: 4},
	} {
		r.Cookie = uint64(i)
		if b = r.Append(b); r.Command == wire.CmdWrite {
			b = append(b, "data"...)
		}
	}
	c.send(b)
	for i := range 6 {
		if got := c.errno(uint64(i)); got != 0 {
			t.Errorf("request %d: %v", i, got)
		}
	}
	want := []nbdtest.Op{
		{Kind: "write", Offset: 10, Length: 4},
		{Kind: "zero", Offset: 20, Length: 5, NoHole: true, FUA: true},
		{Kind: "flush"},
		{Kind: "trim", Offset: 30, Length: 6, FUA: true},
		{Kind: "zero", Offset: 40, Length: 7},
		{Kind: "write", Offset: 10, Length: 4, FUA: true},
	}
	if diff := cmp.Diff(want, d.Ops()); diff != "" {
		t.Error(diff)
	}
}

func TestDeviceErrorsBecomeErrnos(t *testing.T) {
	d := newDisk()
	s := serve(t, nbd.Limits{}, d)
	c, structured := s.simple(t), s.structured(t)
	for code, want := range map[fault.Code]wire.Errno{
		fault.NoSpace: wire.ENOSPC, fault.ReadOnly: wire.EPERM, fault.NotPrimary: wire.EPERM, fault.Denied: wire.EPERM,
		fault.Fenced: wire.ESHUTDOWN, fault.NotReady: wire.ESHUTDOWN, fault.Usage: wire.EINVAL,
		fault.Timeout: wire.EIO, fault.Corrupt: wire.EIO, fault.Internal: wire.EIO,
	} {
		d.Fail(fault.New(code, "the disk says %s", code))
		for _, r := range []wire.Request{
			{Command: wire.CmdRead, Length: 512}, {Command: wire.CmdWrite, Length: 4}, {Command: wire.CmdTrim, Length: 4}, {Command: wire.CmdFlush},
		} {
			var payload []byte
			if r.Command == wire.CmdWrite {
				payload = []byte("data")
			}
			r.Cookie = 9
			c.request(r, payload)
			if got := c.errno(9); got != want {
				t.Errorf("%s, command %d: %v, want %v", code, r.Command, got, want)
			}
			structured.request(r, payload)
			got := structured.chunk(9)
			if got.kind != wire.ChunkError || wire.Errno(binary.BigEndian.Uint32(got.payload)) != want || string(got.payload[6:]) != "the disk says "+string(code) {
				t.Errorf("%s, command %d: %+v", code, r.Command, got)
			}
		}
	}
}

// descriptors reads a chunk of BLOCK_STATUS.
func descriptors(t *testing.T, k chunk) (out [][2]uint32) {
	t.Helper()
	if !k.done || k.kind != wire.ChunkBlockStatus || len(k.payload)%8 != 4 || binary.BigEndian.Uint32(k.payload) != 1 {
		t.Fatalf("not the extents of the selected context: %+v", k)
	}
	for b := k.payload[4:]; len(b) > 0; b = b[8:] {
		out = append(out, [2]uint32{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])})
	}
	return out
}

func TestBlockStatus(t *testing.T) {
	const page = 64 << 10
	c := serve(t, nbd.Limits{}, newDisk()).structured(t)
	c.request(wire.Request{Command: wire.CmdWrite, Cookie: 1, Offset: 2*page + 5, Length: page}, make([]byte, page))
	if got := c.errno(1); got != 0 {
		t.Fatal(got)
	}
	const hole = wire.StateHole | wire.StateZero
	for name, test := range map[string]struct {
		flags       uint16
		off, length uint32
		want        [][2]uint32
	}{
		"everything":          {0, 0, diskSize, [][2]uint32{{2 * page, hole}, {2 * page, 0}, {12 * page, hole}}},
		"within one":          {0, 100, 200, [][2]uint32{{200, hole}}},
		"across a border":     {wire.CmdFlagFUA, 2*page - 1, 2, [][2]uint32{{1, hole}, {1, 0}}},
		"one, of many":        {wire.CmdFlagReqOne, 0, diskSize, [][2]uint32{{2 * page, hole}}},
		"one, no longer":      {wire.CmdFlagReqOne, 0, page + 1, [][2]uint32{{page + 1, hole}}},
		"one, joined of many": {wire.CmdFlagReqOne, 2 * page, diskSize - 2*page, [][2]uint32{{2 * page, 0}}},
	} {
		c.request(wire.Request{Command: wire.CmdBlockStatus, Flags: test.flags, Cookie: 4, Offset: uint64(test.off), Length: test.length}, nil)
		if diff := cmp.Diff(test.want, descriptors(t, c.chunk(4))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestWrongRequestMagicEndsTheSession(t *testing.T) {
	c := serve(t, nbd.Limits{}, newDisk()).simple(t)
	c.send(make([]byte, wire.RequestSize))
	c.gone()
}
