package journal

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"tidemark/internal/api"
	"tidemark/internal/sitetest"
)

// BenchmarkSnapshotUnderLoad measures how long a snapshot of an image takes, from request
// to answer, while a client writes blocks of 4 KiB at full speed, 16 at a time, and how
// many writes that client gets through. The time must not depend on the image's size.
func BenchmarkSnapshotUnderLoad(b *testing.B) {
	for _, size := range []uint64{64 << 20, 1 << 40} {
		b.Run(fmt.Sprintf("%dMiB", size>>20), func(b *testing.B) {
			at := sitetest.Start(b, "east")
			s, _ := start(b, at)
			d := acquire(b, s)
			create(b, d, "disk0", size)
			ctx, halt := context.WithCancel(b.Context())
			wrote := load(ctx, b, s, size)
			var times []time.Duration
			started := time.Now()
			for b.Loop() {
				name := fmt.Sprint("s", len(times)%200)
				if len(times) >= 200 {
					must[api.Nothing](b, at, d, api.SnapRemove, snapRequest("disk0", name))
				}
				begun := time.Now()
				must[[]api.Snapshot](b, at, d, api.SnapCreate, snapRequest("disk0", name))
				times = append(times, time.Since(begun))
				wantNil(b, d.life.operations.settled(ctx)) // nobody takes snapshots without a pause
			}
			took := time.Since(started)
			halt()
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "ms/median")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "ms/p99")
			b.ReportMetric(float64(wrote())/took.Seconds(), "writes/s")
		})
	}
}

// load writes until ctx ends; the returned function waits for that and says how much.
func load(ctx context.Context, b *testing.B, s *Service, size uint64) (writes func() uint64) {
	dev := open(b, s, "vms/prod/disk0")
	block := pattern(1, 4096)
	slots := make(chan struct{}, 16)
	n := uint64(0)
	var running sync.WaitGroup
	running.Go(func() {
		for ; ctx.Err() == nil; n++ {
			slots <- struct{}{}
			dev.Write(context.Background(), block, n*7919*4096%size, false, func(err error) {
				if err != nil {
					b.Errorf("write: %v", err)
				}
				<-slots
			})
		}
	})
	return func() uint64 {
		running.Wait()
		return n
	}
}
