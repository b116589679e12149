package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

const (
	crashImageBytes = 16 << 20
	// killsPerEpisode bounds the kills under one set of images: a write that was under
	// way at a kill is in flight for ever to the load, which so runs out of places.
	killsPerEpisode = 20
	writesAtMost    = 400 // between two kills
)

// TestCrashLoop kills a site at random moments under writers on several connections,
// starts it again, and checks that everything that was acknowledged is there, flushed or
// not, and that what is there is a prefix of what was written; journal 89, 97, 171-173.
//
// By hand it was seen to fail when a write is acknowledged as soon as it is queued instead
// of when it is logged (services/journal/writer.go), when a discard is acknowledged and
// not logged (services/journal/device.go), and when a logged message is damaged.
//
// It does not show what a power cut does: a killed process loses nothing that the kernel
// has. That is the business of the crash tests of internal/replica, on a filesystem that
// forgets.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	s := startSite(t, "east")
	long, began := longRun(t), time.Now()
	kills := 0
	for episode := 0; episode == 0 || time.Since(began) < long; episode++ {
		kills += crashEpisode(t, s, episode)
		t.Logf("%d kills in %s", kills, seconds(began))
	}
	s.terminate()
}

// crashEpisode makes fresh images, kills the site under writers again and again, and
// removes the images. It returns the number of kills.
func crashEpisode(t *testing.T, s *site, episode int) int {
	t.Helper()
	dir := fmt.Sprintf("vms/crash%d", episode)
	images := []string{dir + "/a", dir + "/b"}
	for _, image := range append(images, dir+"/exact") {
		s.createImage(image, "16MiB", "--object-size", "1MiB")
	}
	l := newLoad(t, crashImageBytes, images...)
	exact := newExact(t, dir+"/exact", crashImageBytes)
	for range killsPerEpisode {
		w := l.start(s)
		doing := exact.start(s)
		w.awaitWrites(rand.Int64N(writesAtMost))
		s.kill()
		w.abandon()
		doing.Wait()
		s.start()
		l.demandComplete(s)
		exact.check(s)
	}
	for _, image := range append(images, dir+"/exact") {
		awaitRemoved(t, s, image)
	}
	s.must("dir", "remove", dir)
	return killsPerEpisode
}

// awaitRemoved removes an image as soon as the server has noticed that its clients are gone.
func awaitRemoved(t *testing.T, s *site, image string) {
	t.Helper()
	await(t, patience, "remove "+image, func() error {
		r := s.run("image", "remove", image)
		return unless(r.code == 0, "%s", r)
	})
}

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
