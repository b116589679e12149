package journal

import (
	"bytes"
	"context"
	"testing"

	"tidemark/internal/sitetest"
	"tidemark/internal/tail"
)

// TestLargestWrites writes with one request as much as a client may, several times in a
// row: what its messages hold in memory, and not only what they say, is within the bound
// of a run.
func TestLargestWrites(t *testing.T) {
	t.Parallel()
	at := sitetest.StartIn(t, "east", t.TempDir())
	s, _ := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 64<<20)
	dev := open(t, s, "vms/prod/disk0")
	for n := range uint64(3) {
		data := pattern(1+n, 32<<20)
		write(t, dev, data, n*4096+1, false)
		if !bytes.Equal(read(t, dev, n*4096+1, len(data)), data) {
			t.Fatalf("write %d is read back otherwise", n)
		}
	}
}

// TestRunThatCouldNotBeApplied: a change that is longer than what is applied as one step
// is refused before any of it is logged, where it would stay for ever.
func TestRunThatCouldNotBeApplied(t *testing.T) {
	t.Parallel()
	at := sitetest.StartIn(t, "east", t.TempDir())
	s, _ := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 64<<20)
	l, err := d.current()
	if err != nil {
		t.Fatal(err)
	}
	image, _ := l.replica.Image(1)
	before, done := l.tail.Marks().Logged, make(chan error, 1)
	parts := l.writer.writing(image, 0, make([]byte, tail.RunBytesMax), false)
	l.writer.submitRun(context.Background(), parts, func(err error) { done <- err })
	if err := <-done; err == nil || l.tail.Marks().Logged != before {
		t.Errorf("%v, and the log goes from %v to %v", err, before.Position, l.tail.Marks().Logged.Position)
	}
}
