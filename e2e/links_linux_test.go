package e2e_test

import (
	"testing"
	"time"

	"tidemark/internal/sitetest"
)

// resumeMax is how soon after the return of a link replay goes on. The program that asks
// takes some of it.
const resumeMax = 2 * time.Second

// resumes fails the test if west, after its link is back, does not apply more than it had
// within the time that it has.
func resumes(t *testing.T, west *site, dir string, heal func()) {
	t.Helper()
	had := west.mirror(dir).Position
	heal()
	began := time.Now()
	awaitEvery(t, fastPoll, patience, "west goes on", func() error {
		now, err := west.mirrorNow(dir)
		if err == nil {
			err = unless(had.before(now.Position), "west is at %v: %s %s", now.Position, now.State, now.Error)
		}
		return err
	})
	sitetest.Prompt(t, "replay goes on after the link is back", began, resumeMax)
}

// TestLinks lets the link between two sites fail in every way while east goes on being
// written: replay goes on within two seconds of the link's return, and in the end both hold
// the same, by content; journal 242, 307; rivals 15.
func TestLinks(t *testing.T) {
	t.Parallel()
	east, west, link := cabledPair(t)
	const dir, image = "vms/prod", "vms/prod/a"
	east.createImage(image, "16MiB", "--object-size", "1MiB")
	west.must("mirror", "add", dir)
	awaitLevel(t, east, west, dir)
	l := newLoad(t, 16<<20, image)
	l.pace = 20 * time.Millisecond
	w := l.start(east)
	w.awaitWrites(50)

	for _, down := range []time.Duration{500 * time.Millisecond, 4 * time.Second} {
		heal := link.reset()
		<-time.After(down)
		resumes(t, west, dir, heal)
	}
	sound := func() { link.become(weather{}) }
	for _, down := range []time.Duration{time.Second, 5 * time.Second, 12 * time.Second} {
		link.become(weather{hole: true})
		<-time.After(down)
		resumes(t, west, dir, sound)
	}
	for i := range 12 {
		link.become(weather{hole: true})
		<-time.After(time.Duration(100+90*i) * time.Millisecond)
		sound()
		<-time.After(time.Duration(900-70*i) * time.Millisecond)
	}
	resumes(t, west, dir, sound)

	slow := weather{delay: 100 * time.Millisecond, loss: 0.02, rate: 10_000_000 / 8}
	link.become(slow)
	before := len(west.lifecycle("stalled"))
	for range 8 {
		<-time.After(time.Second)
		if m := west.mirror(dir); m.State != "replaying" {
			t.Errorf("over a slow link west is %s: %s", m.State, m.Error)
		}
	}
	if n := len(west.lifecycle("stalled")); n != before {
		t.Errorf("a slow link was taken for a dead one %d times", n-before)
	}
	far := weather{delay: 50 * time.Millisecond} // each of some eight round trips counts
	link.become(weather{hole: true, delay: far.delay})
	<-time.After(4 * time.Second)
	resumes(t, west, dir, func() { link.become(far) })
	sound()
	w.end()
	awaitLevel(t, east, west, dir)
	l.demandComplete(west)
	sameContent(t, east, west, image)
}

// TestFirstSyncOverASlowLink copies an image over a link that is slow and lossy, and cut in
// the middle of it: it goes on where it was; journal 239, 265; rivals 6.
func TestFirstSyncOverASlowLink(t *testing.T) {
	t.Parallel()
	east, west, link := cabledPair(t)
	const dir, image = "vms/prod", "vms/prod/a"
	east.createImage(image, "12MiB", "--object-size", "1MiB")
	fillImage(t, east, image)
	link.become(weather{delay: 50 * time.Millisecond, loss: 0.005, rate: 10_000_000 / 8})
	west.must("mirror", "add", dir)
	copied := awaitCopied(t, west, 3)
	heal := link.reset()
	<-time.After(time.Second)
	heal()
	again := awaitCopied(t, west, copied.Progress.Objects)
	if again.Progress.Objects < copied.Progress.Objects {
		t.Errorf("%d objects were copied, %d after the link was cut", copied.Progress.Objects, again.Progress.Objects)
	}
	awaitLevel(t, east, west, dir)
	sameContent(t, east, west, image)
}
