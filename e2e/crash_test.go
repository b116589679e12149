package e2e_test

import (
	"context"
	"testing"
	"time"
)

// TestCrashAfterFlush kills a site right after a flush was answered, on a connection
// other than the one that wrote: multi-conn is a promise.
func TestCrashAfterFlush(t *testing.T) {
	t.Parallel()
	s := startSite(t, "east")
	s.createImage("vms/disk", "16MiB")
	l := newLoad(t, 16<<20, "vms/disk")
	for range 3 {
		w := l.start(s)
		w.awaitWrites(20)
		w.end()
		other := s.dial("vms/disk")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		begun := l.work.BeginFlush()
		if err := other.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		l.work.EndFlush(begun)
		cancel()
		s.kill()
		s.start()
		l.demandComplete(s)
	}
}

// TestCrashWhileStarting kills a site again and again before it is ready.
func TestCrashWhileStarting(t *testing.T) {
	t.Parallel()
	s := startSite(t, "east")
	s.createImage("vms/disk", "16MiB")
	l := newLoad(t, 16<<20, "vms/disk")
	w := l.start(s)
	w.awaitWrites(300)
	s.kill()
	w.abandon()
	for n := range 8 {
		p := s.launch()
		moment := time.NewTimer(time.Duration(n*40) * time.Millisecond)
		select {
		case <-moment.C:
		case <-p.ended:
			t.Fatalf("it ended by itself: %v\n%s", p.err, p.lastWords())
		}
		p.kill()
	}
	s.start()
	l.demandComplete(s)
}
