package journal

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/nbd"
	"tidemark/internal/sitetest"
)

// journal 163, journal 164, journal 165: whatever comes when the directory is closed, or another writer has
// it, is refused and changes nothing.
func TestNothingIsTakenAfterTheEnd(t *testing.T) {
	t.Parallel()
	for _, fenced := range []bool{false, true} {
		at := sitetest.Start(t, "east")
		s, _ := start(t, at)
		d := acquire(t, s)
		create(t, d, "disk0", 8<<20)
		dev := open(t, s, "vms/prod/disk0")
		write(t, dev, pattern(1, 4096), 0, true)
		l := d.life
		if fenced {
			overtake(t, at, d)
			<-later(t, dev, pattern(2, 4096), 0, false)
		} else {
			release(t, s, d, false)
		}
		<-dev.Ended()
		before := len(journalOf(t, at, d))
		compare := api.ImageCompareRequest{Image: "disk0", Compare: pattern(1, 512), Data: pattern(2, 512)}
		result := make(chan error, 1)
		dev.Zero(t.Context(), nbd.ZeroRequest{Length: 4096}, func(err error) { result <- err })
		for what, err := range map[string]error{
			"write":     <-later(t, dev, pattern(2, 4096), 0, false),
			"run":       <-later(t, dev, pattern(2, 1<<20), 0, false),
			"zero":      <-result,
			"fill":      l.fillImage(t.Context(), api.ImageFillRequest{Image: "disk0", Length: 4, Pattern: []byte("ab")}),
			"compare":   l.compareImage(t.Context(), compare),
			"operation": l.setMetadata(t.Context(), api.MetadataRequest{Image: "disk0", Key: "k"}),
			"reset":     l.resetJournal(t.Context(), api.Nothing{}),
		} {
			if err == nil {
				t.Errorf("fenced %v: a %s was taken", fenced, what)
			}
		}
		if n := len(journalOf(t, at, d)) - before; n != 0 {
			t.Errorf("fenced %v: %d entries more", fenced, n)
		}
	}
}

// countingSync counts syncs, each of which waits while the gate is locked.
type countingSync struct {
	bus.Syncer
	gate  sync.RWMutex
	begun atomic.Int64
}

func (c *countingSync) Sync(ctx context.Context, stream string) error {
	c.begun.Add(1)
	c.gate.RLock()
	defer c.gate.RUnlock()
	return c.Syncer.Sync(ctx, stream)
}

// journal 46: flushes that come while one is under way share the next.
func TestFlushesShareASync(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	syncer := &countingSync{Syncer: at.Server}
	guarded(t, at, nil, syncer)
	s, _ := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
	dev := open(t, s, "vms/prod/disk0")
	syncer.gate.Lock()
	before := syncer.begun.Load()
	write(t, dev, pattern(1, 4096), 0, false)
	done := make(chan error, 10)
	for range cap(done) {
		dev.Flush(t.Context(), func(err error) { done <- err })
	}
	sitetest.Eventually(t, "a sync is under way", func() bool { return syncer.begun.Load() > before })
	syncer.gate.Unlock()
	for range cap(done) {
		wantNil(t, <-done)
	}
	if n := syncer.begun.Load() - before; n > 3 {
		t.Errorf("%d syncs for %d flushes", n, cap(done))
	}
}
