package replayer

import (
	"math/rand/v2"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/sitetest"
)

// BenchmarkResync is the resync of an image of 4 GiB after a split brain in which random
// blocks of 4 KiB were written at both sites, 1 % of the image at each. It needs 20 GiB of
// disk: go test ./services/replayer -run - -bench BenchmarkResync -benchtime 1x -timeout 30m.
func BenchmarkResync(b *testing.B) {
	const size = 4 << 30
	for b.Loop() {
		b.StopTimer()
		rng := rand.New(rand.NewPCG(1, 2))
		east, west := newPair(b)
		east.own("")
		must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: size})
		data := make([]byte, events.PayloadMax)
		for off := uint64(0); off < size; off += events.PayloadMax {
			for i := 0; i < len(data); i += 512 {
				data[i], data[i+1] = byte(rng.Uint32()), byte(rng.Uint32())
			}
			east.write("disk0", data, off)
		}
		west.follow()
		west.within(10*time.Minute, func() bool { return west.shows(Replaying, "")() && west.status().Lag == api.Lag{} })
		west.sameAs(east)
		west.release()
		west.own(events.TagForced)
		east.scribble(rng, "disk0", size, size/4096/100)
		west.scribble(rng, "disk0", size, size/4096/100)
		west.release()
		b.StartTimer()
		west.acquire(1, false)
		west.within(10*time.Minute, func() bool { return len(west.notes(events.ResyncEnded)) > 0 && west.shows(Replaying, "")() })
		b.StopTimer()
		west.sameAs(east)
		b.ReportMetric(float64(west.travelled())*100/size, "%-travelled")
		b.StartTimer()
	}
}

// within waits for longer than a test would.
func (p *party) within(limit time.Duration, ok func() bool) {
	p.t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			p.t.Fatal("it takes too long")
		}
		sitetest.Eventually(p.t, "some time passes", func() bool { return time.Now().UnixMilli()%500 < 50 })
	}
}
