package replayer

import (
	"context"
	"errors"
	"time"

	"tidemark/events"
	"tidemark/internal/tail"
)

const (
	// measureAge is how often a copy is looked at for whether it became complete.
	measureAge = 5 * time.Second
	// objectBytes is what an object of a copy counts for: most have this size.
	objectBytes = 4 << 20
)

// measure tells until ctx ends what the copy amounts to, for whoever spreads directories over
// nodes: seldom, and only what has changed by much. A copy that is not open is not measured, but for
// one whose successor is being prepared: that is not complete.
func (f *follower) measure(ctx context.Context) {
	tick := time.NewTicker(measureAge)
	defer tick.Stop()
	var told *events.DirectoryMeasured
	var written uint64 // bytes of the history, when that was told
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		f.mu.Lock()
		own, preparing := f.own, f.state == Resyncing
		f.mu.Unlock()
		var at, bytes uint64
		var complete bool
		switch {
		case own != nil:
			at, bytes, complete = own.tail.Marks().Applied.Bytes, own.replica.ChangedSince(0)*objectBytes, own.complete()
		case !preparing:
			continue
		}
		now := events.InstantOf(time.Now())
		if told != nil && told.Complete == complete && now.Sub(told.At) < events.MeasureEvery {
			continue
		}
		m := &events.DirectoryMeasured{
			Directory: f.id, Client: f.service.clients.Self(), Node: f.service.deps.Node.Name,
			Bytes: bytes, Complete: complete, At: now,
		}
		if told != nil && at > written {
			m.Rate = uint64(float64(at-written) / now.Sub(told.At).Seconds())
		}
		if !m.Worth(told) {
			continue
		}
		switch err := f.tenure.Publish(ctx, m); {
		case err == nil:
			told, written = m, at
		case ctx.Err() == nil && !errors.Is(err, tail.ErrFenced):
			f.log.Warn("what the copy amounts to is not told", "error", err)
		}
	}
}
