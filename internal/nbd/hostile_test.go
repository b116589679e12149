package nbd_test

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/fault"
	"tidemark/internal/nbd"
	"tidemark/internal/nbd/nbdtest"
	"tidemark/internal/nbd/wire"
)

func TestClaimedLengthTakesNoMemory(t *testing.T) {
	s := serve(t, nbd.Limits{}, nbdtest.NewDisk(nbd.Info{Name: "disk", Size: 64 << 20}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 20 {
		c := s.simple(t)
		c.request(write(1, 32<<20), make([]byte, 1000))
		h := s.dial(t).hello()
		h.send([]byte("IHAVEOPT\x00\x00\x00\x06\xff\xff\xff\xff"))
		h.gone()
	}
	s.stop()
	s.wait(t)
	runtime.ReadMemStats(&after)
	// A connection has its buffers, and a WRITE its first MiB.
	if got := after.TotalAlloc - before.TotalAlloc; got > 20*3<<20 {
		t.Errorf("allocated %d MiB for what was only claimed", got>>20)
	}
}

func TestErrno(t *testing.T) {
	for _, test := range []struct {
		err  error
		want wire.Errno
	}{
		{nil, 0},
		{context.Canceled, wire.ESHUTDOWN},
		{fmt.Errorf("read: %w", context.Canceled), wire.ESHUTDOWN},
		{context.DeadlineExceeded, wire.EIO},
		{fmt.Errorf("read: %w", wire.ENOMEM), wire.ENOMEM},
		{fmt.Errorf("write: %w", fault.New(fault.NoSpace, "full")), wire.ENOSPC},
		{fault.New(fault.SplitBrain, "two"), wire.EIO},
		{fmt.Errorf("anything"), wire.EIO},
	} {
		if got := nbd.Errno(test.err); got != test.want {
			t.Errorf("%v: %v, want %v", test.err, got, test.want)
		}
	}
}

// odd serves one disk whose extents are what a test says.
type odd struct {
	*nbdtest.Exports
	extents []nbd.Extent
}

type oddDevice struct {
	nbd.Device
	extents []nbd.Extent
}

func (o *odd) Open(ctx context.Context, name string) (nbd.Device, error) {
	d, err := o.Exports.Open(ctx, name)
	return &oddDevice{Device: d, extents: o.extents}, err
}

func (d *oddDevice) Extents(context.Context, uint64, uint64) ([]nbd.Extent, error) {
	return d.extents, nil
}

func TestExtentsAreMadeToFitTheProtocol(t *testing.T) {
	many := make([]nbd.Extent, 100_000)
	for i := range many {
		many[i] = nbd.Extent{Length: 1, Hole: i%2 == 0}
	}
	for name, test := range map[string]struct {
		extents []nbd.Extent
		count   int
		first   [2]uint32
	}{
		"none":            {nil, 1, [2]uint32{diskSize, 0}},
		"empty ones only": {[]nbd.Extent{{Hole: true}, {Zero: true}}, 1, [2]uint32{diskSize, 0}},
		"an empty first":  {[]nbd.Extent{{Hole: true}, {Length: 5, Zero: true}}, 1, [2]uint32{5, wire.StateZero}},
		"an empty within": {[]nbd.Extent{{Length: 5}, {Hole: true}, {Length: 6}}, 1, [2]uint32{11, 0}},
		"beyond the end":  {[]nbd.Extent{{Length: math.MaxUint64, Hole: true}, {Length: 9}}, 1, [2]uint32{diskSize, wire.StateHole}},
		"too many":        {many, 1 << 16, [2]uint32{1, wire.StateHole}},
	} {
		s := serveExports(t, nbd.Limits{}, &odd{nbdtest.NewExports(newDisk()), test.extents})
		c := s.structured(t)
		c.request(wire.Request{Command: wire.CmdBlockStatus, Cookie: 1, Length: diskSize}, nil)
		got := descriptors(t, c.chunk(1))
		if len(got) != test.count || got[0] != test.first {
			t.Errorf("%s: %d extents, the first %v; want %d, %v", name, len(got), got[0], test.count, test.first)
		}
		c.request(wire.Request{Command: wire.CmdBlockStatus, Flags: wire.CmdFlagReqOne, Cookie: 1, Length: diskSize}, nil)
		if diff := cmp.Diff([][2]uint32{test.first}, descriptors(t, c.chunk(1))); diff != "" {
			t.Errorf("%s, one: %s", name, diff)
		}
	}
}
