package journal

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// journal 103, journal 119: only one of several comparisons with the same value succeeds, and one
// that fails leaves nothing in the log.
func TestCompareAndWrite(t *testing.T) {
	t.Parallel()
	at, s, d, _ := owning(t, 8<<20)
	const clients, rounds = 4, 100
	value := func(p []byte) uint64 { return uint64(p[0]) | uint64(p[1])<<8 }
	var won atomic.Uint64
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			dev := open(t, s, "vms/prod/disk0")
			for range rounds {
				was := read(t, dev, 512, 2)
				n := value(was) + 1
				err := d.life.compareImage(t.Context(), api.ImageCompareRequest{
					Image: "disk0", Offset: 512, Compare: was, Data: []byte{byte(n), byte(n >> 8)},
				})
				switch fault.CodeOf(err) {
				case "":
					won.Add(1)
				case fault.VersionMismatch:
				default:
					t.Errorf("compare: %v", err)
				}
			}
		})
	}
	running.Wait()
	if n := value(read(t, open(t, s, "vms/prod/disk0"), 512, 2)); n != won.Load() {
		t.Errorf("%d succeeded, and each added one: there are %d", won.Load(), n)
	}
	logged := uint64(0)
	for _, e := range journalOf(t, at, d) {
		if _, ok := e.Event.(events.CompareWritten); ok {
			logged++
		}
	}
	if logged != won.Load() || logged == 0 {
		t.Errorf("%d succeeded, %d are in the log", won.Load(), logged)
	}
}

// journal 118: a fill, also one of several entries, and of a pattern that no entry's end
// meets.
func TestFill(t *testing.T) {
	t.Parallel()
	at, s, d, stop := owning(t, 64<<20)
	unit := pattern(4, 4099)
	n := 40 << 20 / len(unit)
	must[api.Nothing](t, at, d, api.ImageFill, api.ImageFillRequest{Image: "disk0", Offset: 777, Length: uint64(n * len(unit)), Pattern: unit})
	want := bytes.Repeat(unit, n)
	if got := read(t, open(t, s, "vms/prod/disk0"), 777, len(want)); !bytes.Equal(got, want) {
		t.Errorf("%d bytes differ", differing(got, want))
	}
	stop()
	s, _ = start(t, at)
	acquire(t, s)
	if got := read(t, open(t, s, "vms/prod/disk0"), 777, len(want)); !bytes.Equal(got, want) {
		t.Errorf("after a restart %d bytes differ", differing(got, want))
	}
}
