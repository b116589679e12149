package journal

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
)

const runBytes = 3 << 20 // a write of so many takes 12 entries, two of which fill a message

const largestRequest = 32 << 20 // of an NBD client, where nothing else is said

// breakAt makes the log refuse the n-th message from when it is armed on, and all
// behind it while it is; refused is called at the first.
type breakAt struct {
	n, seen atomic.Int64
	refused func()
}

func (b *breakAt) guard() error {
	n := b.n.Load()
	if n == 0 {
		return nil
	}
	switch seen := b.seen.Add(1); {
	case seen < n:
		return nil
	case seen == n:
		b.refused()
	}
	return bus.ErrFull
}

func (b *breakAt) arm(n int64) {
	b.seen.Store(0)
	b.n.Store(n)
}

// A write that takes several messages is there as a whole or not at all, wherever the
// owner is killed between them, and no message is larger than the bus carries (journal 62).
func TestRunIsAllOrNothing(t *testing.T) {
	for cut := int64(1); ; cut++ {
		complete := false
		t.Run(fmt.Sprintf("killed before message %d", cut), func(t *testing.T) { complete = cutRun(t, cut) })
		if complete {
			if cut < 4 {
				t.Errorf("the write took %d messages", cut)
			}
			return
		}
	}
}

// cutRun kills the owner before the n-th message of a run, opens the directory again, and
// reports whether the write was complete by then.
func cutRun(t *testing.T, n int64) (complete bool) {
	at := sitetest.Start(t, "east")
	cut := &breakAt{}
	guarded(t, at, cut.guard, nil)
	s, stop := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 16<<20)
	dev := open(t, s, "vms/prod/disk0")
	before, after := pattern(1, runBytes), pattern(2, runBytes)
	write(t, dev, before, 4096, true)
	cut.refused = d.cancel
	cut.arm(n)
	err := <-later(t, dev, after, 4096, false)
	complete = err == nil
	cut.arm(0)
	stop()

	s, stop = start(t, at)
	acquire(t, s)
	dev = open(t, s, "vms/prod/disk0")
	want := before
	if complete {
		want = after
	}
	if got := read(t, dev, 4096, runBytes); !bytes.Equal(got, want) {
		t.Errorf("complete %v: %d of %d bytes are wrong", complete, differing(got, want), runBytes)
	}
	// Positions and versions behind it are right.
	write(t, dev, after, 8192, true)
	stop()
	s, _ = start(t, at)
	acquire(t, s)
	if got := read(t, open(t, s, "vms/prod/disk0"), 8192, runBytes); !bytes.Equal(got, after) {
		t.Error("a write behind the broken one is not there after a restart")
	}
	return complete
}

func differing(a, b []byte) int {
	n := 0
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// A log that becomes full in the middle of a run: what was logged of it is void, readers
// never see it, and the directory goes on (journal 45, journal 48, journal 56, journal 61: what is behind a
// refused message gets its error, in order, and nothing else does).
func TestRunRefusedInTheMiddle(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	cut := &breakAt{refused: func() {}}
	guarded(t, at, cut.guard, nil)
	s, stop := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 16<<20)
	d.life.writer.fullTime = 0
	dev := open(t, s, "vms/prod/disk0")
	before, after := pattern(1, runBytes), pattern(2, runBytes)
	write(t, dev, before, 0, true)
	cut.arm(3)
	first := later(t, dev, after, 0, false)
	second := later(t, dev, after[:4096], 8<<20, true)
	for i, done := range []<-chan error{first, second} {
		if err := <-done; fault.CodeOf(err) != fault.NoSpace {
			t.Errorf("write %d: %v", i, err)
		}
	}
	cut.arm(0)
	if got := read(t, dev, 0, runBytes); !bytes.Equal(got, before) {
		t.Error("readers see parts of a write that was refused")
	}
	write(t, dev, after[:100_000], 1<<20, true)
	copy(before[1<<20:], after[:100_000])
	if got := read(t, dev, 0, runBytes); !bytes.Equal(got, before) {
		t.Error("a write over a void one is not read back")
	}
	// The positions of what was refused are free again: writes to one object, the second of
	// which names the first, are applied.
	a, b := later(t, dev, after[:4096], 2<<20, false), later(t, dev, after[4096:8192], 2<<20, false)
	wantNil(t, <-a, <-b, d.life.tail.Drain(t.Context()))
	copy(before[2<<20:], after[4096:8192])
	void := 0
	for _, e := range journalOf(t, at, d) {
		if e.Part.Count != 0 {
			void++
		}
	}
	if void%12 == 0 {
		t.Errorf("%d parts in the log: none was broken off", void)
	}
	stop()
	s, _ = start(t, at)
	acquire(t, s)
	if got := read(t, open(t, s, "vms/prod/disk0"), 0, runBytes); !bytes.Equal(got, before) {
		t.Error("after a restart the image does not hold what was acknowledged")
	}
}

// A run stands in the log without anything between its parts, in messages of its own when
// it takes several, whatever else is written.
func TestRunStandsByItself(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	s, _ := with(t, at, func(d *Deps) {
		d.Settings = DefaultSettings()
		d.Settings.PayloadBytes = 64 << 10
		d.Settings.FlushBytes = 256 << 10
		d.Settings.CheckpointAge, d.Settings.CheckpointBytes = time.Hour, 1<<30 // or the log is trimmed while it is read
	})
	d := acquire(t, s)
	create(t, d, "disk0", 64<<20)
	dev := open(t, s, "vms/prod/disk0")
	var results []<-chan error
	for i := range 200 {
		n := []int{512, 100_000, 700_000, 4096}[i%4]
		results = append(results, later(t, dev, pattern(uint64(i), n), uint64(i)*131072, false))
	}
	for _, done := range results {
		wantNil(t, <-done)
	}
	var before logEntry
	for _, e := range journalOf(t, at, d) {
		switch {
		case e.Part.Index > 0 && !e.Part.Continues(before.Part):
			t.Fatalf("part %+v at %v follows %+v", e.Part, e.position, before.Part)
		case e.Part.Index == 0 && !before.Part.Last():
			t.Fatalf("%v follows part %+v", e.position, before.Part)
		case e.Part.Count == 11 && e.Part.Index == 0 && e.message == before.message,
			before.Part.Count == 11 && before.Part.Last() && e.message == before.message:
			t.Fatalf("entry %v shares a message with a run that spans several", e.position)
		}
		if w, ok := e.Event.(events.Written); ok && len(w.Data) > 64<<10 {
			t.Fatalf("entry %v carries %d bytes", e.position, len(w.Data))
		}
		before = e
	}
}

// The largest request that a client may send fits, however it is divided: what its
// messages take in memory is bounded too.
func TestLargestWrite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ flush, payload int }{
		{events.BatchBytesMax, events.PayloadMax},
		{1, events.PayloadMax},
		{1, 65 << 10},
		{1, 9 << 10},
		{1, payloadBytesMin},
	} {
		t.Run(fmt.Sprintf("messages of %d bytes, entries of %d", c.flush, c.payload), func(t *testing.T) {
			at := sitetest.Start(t, "east")
			s, _ := with(t, at, func(d *Deps) {
				d.Settings = DefaultSettings()
				d.Settings.FlushBytes, d.Settings.PayloadBytes = c.flush, c.payload
			})
			d := acquire(t, s)
			create(t, d, "disk0", 64<<20)
			dev := open(t, s, "vms/prod/disk0")
			want := pattern(1, largestRequest)
			write(t, dev, want, 512, false)
			wantNil(t, d.life.tail.Drain(t.Context()))
			if got := read(t, dev, 512, len(want)); !bytes.Equal(got, want) {
				t.Errorf("%d bytes differ", differing(got, want))
			}
		})
	}
}

// What was logged of a large write before the log was full does not keep the next one
// waiting for its room.
func TestLargeWriteBehindABrokenOne(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	cut := &breakAt{refused: func() {}}
	guarded(t, at, cut.guard, nil)
	s, _ := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 64<<20)
	d.life.writer.fullTime = 0
	dev := open(t, s, "vms/prod/disk0")
	large := pattern(1, largestRequest)
	cut.arm(int64(len(large) / events.PayloadMax))
	if err := <-later(t, dev, large, 0, false); fault.CodeOf(err) != fault.NoSpace {
		t.Fatalf("write to a full log: %v", err)
	}
	cut.arm(0)
	write(t, dev, large, 0, false)
	if got := read(t, dev, 0, len(large)); !bytes.Equal(got, large) {
		t.Errorf("%d bytes differ", differing(got, large))
	}
}
