package replayer

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
)

// steadyRate is the writes per second of the lag benchmark: of 4 KiB, about half of what one
// directory takes.
const steadyRate = 4000

// BenchmarkSteadyLag measures how long it takes from the acknowledgement of a write at the
// owner until a follower in the same process has applied it, under a steady load of writes
// of 4 KiB that nobody flushes.
//
//	go test ./services/replayer -run '^$' -bench SteadyLag -benchtime 1x
func BenchmarkSteadyLag(b *testing.B) {
	east, west := newPair(b)
	east.own("")
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: 1 << 30})
	west.follow()
	west.sameAs(east)
	for b.Loop() {
		lags := steadyLag(b, east, west, 20*time.Second)
		slices.Sort(lags)
		for name, part := range map[string]float64{"median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1} {
			at := lags[min(len(lags)-1, int(part*float64(len(lags))))]
			b.ReportMetric(float64(at.Microseconds())/1000, "ms/"+name)
		}
	}
}

// steadyLag returns the lags of samples that are taken while a load runs for a time: from
// when all that was acknowledged stood at a position, until the follower has applied it.
func steadyLag(b *testing.B, east, west *party, during time.Duration) []time.Duration {
	ctx, cancel := context.WithTimeout(context.Background(), during)
	defer cancel()
	dev := east.open("vms/prod/disk0")
	defer func() { _ = dev.Close(context.Background()) }()
	type sample struct {
		at   time.Time
		mark events.Position
	}
	samples := make(chan sample, 1<<16)
	var working sync.WaitGroup
	working.Go(func() {
		defer close(samples)
		block := noise(4096)
		slots := make(chan struct{}, 64)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			<-tick.C
			for range steadyRate / 1000 {
				slots <- struct{}{}
				dev.Write(context.Background(), block, rand.Uint64N(1<<18)*4096, false, func(err error) {
					if err != nil {
						b.Error(err)
					}
					<-slots
				})
			}
			if n%10 == 0 {
				status, err := ask[api.Status](east, api.DirectoryStatus, api.Nothing{})
				if err == nil {
					samples <- sample{time.Now(), status.Position.Position}
				}
			}
		}
	})
	var lags []time.Duration
	own := west.follower.followers[west.id].copy()
	for s := range samples {
		for {
			changed := own.tail.Changed()
			if own.tail.Marks().Applied.Position >= s.mark {
				lags = append(lags, time.Since(s.at))
				break
			}
			<-changed
		}
	}
	working.Wait()
	return lags
}
