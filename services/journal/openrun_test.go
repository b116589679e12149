package journal

import (
	"bytes"
	"testing"

	"tidemark/events"
	"tidemark/internal/sitetest"
)

// TestLogEndsInsideARun opens a directory whose former owner died between two messages of
// one large write: the write is not there, the next owner's messages are taken for its own
// only, and its writes are read back.
func TestLogEndsInsideARun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := sitetest.StartIn(t, "east", dir)
	s, stop := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
	dev := open(t, s, "vms/prod/disk0")
	before := pattern(1, 4096)
	write(t, dev, before, 0, true)
	if err := dev.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := d.current()
	if err != nil {
		t.Fatal(err)
	}
	image, _ := l.replica.Image(1)
	tag, end, log, seq := l.claim.Load().Tag, l.tail.Marks().Logged, l.log, l.tail.LastSequence()
	subject := events.EntriesSubject("east", d.id)
	version := image.ObjectVersion(0)
	stop()

	builder := events.NewBatchBuilder(nil)
	builder.Append(events.Entry{
		Before: []events.Position{version}, Part: events.Part{Count: 2},
		Event: events.Written{Image: image.ID(), Offset: 0, Data: pattern(2, 64<<10)},
	})
	msg, _ := builder.Seal(tag, end, end.Position, 1)
	if _, err := log.Append(t.Context(), subject, msg, seq); err != nil {
		t.Fatal(err)
	}

	s, _ = start(t, at)
	acquire(t, s)
	dev = open(t, s, "vms/prod/disk0")
	if !bytes.Equal(read(t, dev, 0, len(before)), before) {
		t.Error("a part of a write is there")
	}
	for n := range uint64(4) {
		after := pattern(3+n, 300<<10)
		write(t, dev, after, n<<20, true)
		if !bytes.Equal(read(t, dev, n<<20, len(after)), after) {
			t.Errorf("write %d of the next owner is not read back", n)
		}
	}
}
