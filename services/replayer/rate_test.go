package replayer

import (
	"context"
	"errors"
	"testing"
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

// passes measures what comes over the link in a time, in bytes per second.
func (l *linked) passes(during time.Duration) float64 {
	before, began := l.link.Received(), time.Now()
	<-time.After(during)
	return float64(l.link.Received()-before) / time.Since(began).Seconds()
}

func (l *linked) mustPass(t *testing.T, during time.Duration, perSecond float64) {
	t.Helper()
	<-time.After(time.Second) // the new rate holds by then
	if got := l.passes(during); got < 0.7*perSecond || got > 1.4*perSecond {
		t.Errorf("%.1f MiB/s pass, %.1f are allowed", got/(1<<20), perSecond/(1<<20))
	}
}

// rivals 14: a limit that is changed live holds within a second, for objects and for the
// journal, whose backlog grows meanwhile.
func TestRateFollowsItsSetting(t *testing.T) {
	t.Parallel()
	l := newLinked(t)
	must[api.Image](l.east, api.ImageCreate, api.ImageCreateRequest{Image: "large", Size: 48 << 20})
	for off := range uint64(12) {
		l.east.write("large", noise(4<<20), off<<22)
	}
	l.limit(t, 2<<20)
	l.west.follow()
	sitetest.Eventually(t, "objects are copied", func() bool {
		p := must[api.Status](l.west, api.DirectoryStatus, api.Nothing{}).Progress
		return p != nil && p.Bytes > 1<<20
	})
	l.mustPass(t, 2*time.Second, 2<<20)
	p := must[api.Status](l.west, api.DirectoryStatus, api.Nothing{}).Progress
	if p == nil || p.BytesTotal < 48<<20 || p.Rate < 1<<20 || p.Rate > 4<<20 || p.SecondsLeft < 5 || p.SecondsLeft > 60 {
		t.Errorf("progress %+v", p)
	}
	l.limit(t, 5<<20)
	l.mustPass(t, 2*time.Second, 5<<20)
	l.limit(t, 0)
	l.west.sameAs(l.east)

	l.limit(t, 1<<20)
	for off := range uint64(4) {
		l.east.write("large", noise(4<<20), off<<22)
	}
	l.mustPass(t, 6*time.Second, 1<<20) // half of what a reader asks for comes at once
	if behind := l.west.lag().Bytes; behind < 4<<20 {
		t.Errorf("%d bytes behind at a rate that was far too low", behind)
	}
	l.limit(t, 0)
	l.west.sameAs(l.east)
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
	case <-time.After(10 * time.Second):
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
