package replayer

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/sitetest"
)

// limit sets the rate of west, in bytes per second.
func (l *linked) limit(t *testing.T, perSecond uint64) {
	t.Helper()
	if _, err := l.west.at.Bus.Publish(t.Context(), events.StreamDirectories,
		&events.DirectoryConfigured{Directory: westID, Pool: "vms", SyncRate: perSecond}); err != nil {
		t.Fatal(err)
	}
}

// objectsAhead and journalAhead are how many bytes may come over a link beyond its rate at
// once: what fills the bucket, and what is asked for before the rate is looked at.
const (
	objectsAhead = rateBurst + 1<<20
	journalAhead = rateBurst + remotePullBytes + 1<<20
)

// flow is what comes over a link since a moment.
type flow struct {
	link  *sitetest.Link
	began time.Time
	had   int64
}

func (l *linked) flow() flow { return flow{l.link, time.Now(), l.link.Received()} }

// beyond returns how many bytes more came than a rate allows. A slow machine makes it less.
func (f flow) beyond(perSecond float64) float64 {
	came := float64(f.link.Received() - f.had)
	return came - perSecond*time.Since(f.began).Seconds()
}

// mustHold fails the test if more comes than a rate allows, within a time from now.
func (l *linked) mustHold(t *testing.T, during time.Duration, perSecond, ahead float64) {
	t.Helper()
	f := l.flow()
	sitetest.Eventually(t, "the time is over", func() bool {
		if got := f.beyond(perSecond); got > ahead {
			t.Fatalf("%.1f MiB come beyond %.1f MiB/s", got/(1<<20), perSecond/(1<<20))
		}
		return time.Since(f.began) > during
	})
}

// rivals 14: a limit that is changed live holds within a second, for objects and for the
// journal, whose backlog grows meanwhile.
func TestRateFollowsItsSetting(t *testing.T) {
	t.Parallel()
	const size = 48 << 20
	l := newLinked(t)
	must[api.Image](l.east, api.ImageCreate, api.ImageCreateRequest{Image: "large", Size: size})
	for off := range uint64(12) {
		l.east.write("large", noise(4<<20), off<<22)
	}
	progress := func() *api.Progress { return must[api.Status](l.west, api.DirectoryStatus, api.Nothing{}).Progress }
	const slowly = 256 << 10 // takes minutes: a busy machine has the time for all of this
	l.limit(t, slowly)
	l.west.follow()
	sitetest.Eventually(t, "objects are copied", func() bool {
		p := progress()
		return p != nil && p.Bytes > 1<<20
	})
	l.mustHold(t, 3*time.Second, slowly, objectsAhead)
	p := progress()
	if p == nil || p.BytesTotal < size || p.Rate <= 0 || p.Rate > 3<<20 || p.SecondsLeft < 10 {
		t.Errorf("progress %+v", p)
	}

	raised := l.flow()
	l.limit(t, 4<<20)
	sitetest.Eventually(t, "more comes than the former rate allows", func() bool {
		if progress() == nil {
			t.Fatal("all was copied at the former rate")
		}
		return raised.beyond(slowly) > objectsAhead
	})
	l.mustHold(t, time.Second, 4<<20, objectsAhead)
	l.limit(t, 0)
	l.west.sameAs(l.east)

	l.limit(t, 1<<20)
	l.west.keepsTo(1 << 20)
	backlog := l.flow()
	for off := range uint64(4) {
		l.east.write("large", noise(4<<20), off<<22)
	}
	l.mustHold(t, 4*time.Second, 1<<20, journalAhead)
	behind := l.west.lag().Bytes
	if least := 16<<20 - rateBurst - (1<<20)*time.Since(backlog.began).Seconds(); float64(behind) < least {
		t.Errorf("%d bytes behind at a rate that was far too low, at least %.0f expected", behind, least)
	}
	sitetest.Eventually(t, "the journal comes", func() bool {
		left := l.west.lag().Bytes
		return left == 0 || left < behind // a slow machine has had the time to receive all
	})
	l.limit(t, 0)
	l.west.sameAs(l.east)
}

// keepsTo waits until a site's rate is what its settings have.
func (p *party) keepsTo(perSecond float64) {
	p.t.Helper()
	bucket := p.follower.followers[p.id].rate.bucket
	sitetest.Eventually(p.t, "the rate is followed", func() bool { return float64(bucket.Limit()) == perSecond })
}

// What passes in a time is the rate times that time and one burst, and a new rate holds from
// the moment when it is set.
func TestRateIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, passed := newRate(2<<20), atomic.Int64{}
		go func() {
			for r.take(ctx, 64<<10) == nil {
				passed.Add(64 << 10)
			}
		}()
		passes := func(during time.Duration) float64 {
			before := passed.Load()
			time.Sleep(during)
			synctest.Wait()
			return float64(passed.Load()-before) / during.Seconds()
		}
		passes(10 * time.Second) // with the burst
		for _, perSecond := range []uint64{2 << 20, 5 << 20, 100 << 10, 1 << 20} {
			r.set(perSecond)
			passes(rateStep)
			if got := passes(10 * time.Second); math.Abs(got-float64(perSecond)) > 0.05*float64(perSecond) {
				t.Errorf("%.0f bytes per second pass, %d are allowed", got, perSecond)
			}
		}
	})
}

func TestRateLetsGoWhenItIsChanged(t *testing.T) {
	r := newRate(1)
	if err := r.take(t.Context(), rateBurst); err != nil { // the burst
		t.Fatal(err)
	}
	took := make(chan error, 1)
	go func() { took <- r.take(t.Context(), 1<<20) }()
	r.set(1 << 30)
	select {
	case err := <-took:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(sitetest.Patience):
		t.Error("who waits at the old rate waits on")
	}
	r.set(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.take(ctx, 1<<20); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
	if err := (*rate)(nil).take(t.Context(), 1); err != nil {
		t.Error(err)
	}
}
