package replica

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tidemark/events"
	"tidemark/internal/vfs"
)

const benchImage = 1 << 30 // bytes

// benchReplica returns a replica in memory with one image that is allocated
// throughout when filled is set.
func benchReplica(b *testing.B, filled bool) (*Replica, *journal) {
	b.Helper()
	j := newJournal(rand.New(rand.NewPCG(1, 1)).IntN)
	j.claim(1)
	r := create1(b, vfs.OS(), filepath.Join(memDir(b), "r"))
	mustApply(b, r, j.messages[0])
	builder := events.NewBatchBuilder(nil)
	builder.Append(events.Entry{Before: []events.Position{0}, Event: events.ImageCreated{
		Image: 1, Name: "a", Size: benchImage, ObjectSize: ObjectSizeDefault,
	}})
	mustApply(b, r, seal(b, j, builder))
	if filled {
		img, _ := r.Image(1)
		data := make([]byte, events.PayloadMax)
		for off := uint64(0); off < benchImage; off += uint64(len(data)) {
			builder := events.NewBatchBuilder(nil)
			builder.Append(events.Entry{
				Before: []events.Position{img.ObjectVersion(off / ObjectSizeDefault)},
				Event:  events.Written{Image: 1, Offset: off, Data: data},
			})
			mustApply(b, r, seal(b, j, builder))
		}
	}
	return r, j
}

func seal(b *testing.B, j *journal, builder *events.BatchBuilder) *events.Batch {
	b.Helper()
	msg, mark := builder.Seal(j.mark.Position.Tag(), j.mark, 0, 1)
	j.mark = mark
	out, err := events.DecodeBatch(msg)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// writes makes messages of n random writes of 4 KiB with the versions that they meet.
func writes(b *testing.B, r *Replica, j *journal, n int) []*events.Batch {
	b.Helper()
	img, _ := r.Image(1)
	versions := make(map[uint64]events.Position)
	rng := rand.New(rand.NewPCG(2, 2))
	data := make([]byte, BlockSize)
	var out []*events.Batch
	for n > 0 {
		builder := events.NewBatchBuilder(nil)
		position := j.mark.Position
		for ; n > 0 && builder.Size() < events.BatchBytesMax; n-- {
			off := rng.Uint64N(benchImage/BlockSize) * BlockSize
			index := off / ObjectSizeDefault
			before, ok := versions[index]
			if !ok {
				before = img.ObjectVersion(index)
			}
			position++
			versions[index] = position
			builder.Append(events.Entry{Before: []events.Position{before}, Event: events.Written{Image: 1, Offset: off, Data: data}})
		}
		out = append(out, seal(b, j, builder))
	}
	return out
}

// BenchmarkApply4K applies random writes of 4 KiB to an allocated image in the page
// cache, and for comparison only writes the same to a file.
func BenchmarkApply4K(b *testing.B) {
	for _, staged := range []bool{false, true} {
		b.Run(fmt.Sprintf("staged=%v", staged), func(b *testing.B) {
			r, j := benchReplica(b, true)
			const perRound = 20000
			b.ResetTimer()
			for done := 0; done < b.N; done += perRound {
				b.StopTimer()
				batches := writes(b, r, j, min(perRound, b.N-done))
				b.StartTimer()
				for i, m := range batches {
					if staged {
						r.Stage(m)
					}
					if staged && i < 8 {
						continue // a few are always ahead
					}
					if staged {
						m = batches[i-8]
					}
					mustApply(b, r, m)
				}
				if staged {
					for _, m := range batches[max(0, len(batches)-8):] {
						mustApply(b, r, m)
					}
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
	for _, step := range []int{4, 16, 64} {
		b.Run(fmt.Sprintf("step=%d", step), func(b *testing.B) {
			r, j := benchReplica(b, true)
			const perRound = 20000
			b.ResetTimer()
			for done := 0; done < b.N; done += perRound {
				b.StopTimer()
				var ms []events.JournalMessage
				for _, m := range writes(b, r, j, min(perRound, b.N-done)) {
					ms = append(ms, m)
				}
				b.StartTimer()
				for some := range slices.Chunk(ms, step) {
					if err := r.ApplyRun(some, 1); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
	b.Run("bare", func(b *testing.B) {
		f, err := os.Create(filepath.Join(memDir(b), "f"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		data := make([]byte, 1<<20)
		for off := int64(0); off < benchImage; off += int64(len(data)) {
			if _, err := f.WriteAt(data, off); err != nil {
				b.Fatal(err)
			}
		}
		rng := rand.New(rand.NewPCG(2, 2))
		b.ResetTimer()
		for range b.N {
			if _, err := f.WriteAt(data[:BlockSize], rng.Int64N(benchImage/BlockSize)*BlockSize); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	})
}

func BenchmarkReadAt4K(b *testing.B) {
	r, _ := benchReplica(b, true)
	img, _ := r.Image(1)
	rng := rand.New(rand.NewPCG(3, 3))
	p := make([]byte, BlockSize)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := img.ReadAt(p, rng.Int64N(benchImage/BlockSize)*BlockSize); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reads/s")
}

// BenchmarkDiscard1G discards an image of 1 GiB of which nothing is allocated any more.
func BenchmarkDiscard1G(b *testing.B) {
	r, j := benchReplica(b, false)
	img, _ := r.Image(1)
	for range b.N {
		e := events.Entry{Event: events.Discarded{Image: 1, Length: benchImage}}
		for i := range uint64(benchImage / ObjectSizeDefault) {
			e.Before = append(e.Before, img.ObjectVersion(i))
		}
		builder := events.NewBatchBuilder(nil)
		builder.Append(e)
		mustApply(b, r, seal(b, j, builder))
	}
}

// BenchmarkDeepChain measures an image that stands on many snapshots, whose content lies
// in the lowest layer: what a writer asks for each object, and a read.
func BenchmarkDeepChain(b *testing.B) {
	for _, depth := range []int{0, 1, 20, 200} {
		r, j := benchReplica(b, true)
		for i := range depth {
			img, _ := r.Image(1)
			builder := events.NewBatchBuilder(nil)
			builder.Append(events.Entry{Before: []events.Position{img.Version()}, Event: events.SnapshotsCreated{
				Name: fmt.Sprintf("s%d", i), First: events.SnapshotID(i + 1), Images: []events.ImageID{1},
			}})
			mustApply(b, r, seal(b, j, builder))
		}
		img, _ := r.Image(1)
		rng := rand.New(rand.NewPCG(3, 3))
		b.Run(fmt.Sprintf("version/%d", depth), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				img.ObjectVersion(rng.Uint64N(benchImage / ObjectSizeDefault))
			}
		})
		b.Run(fmt.Sprintf("read4K/%d", depth), func(b *testing.B) {
			b.ReportAllocs()
			p := make([]byte, BlockSize)
			for range b.N {
				if _, err := img.ReadAt(p, rng.Int64N(benchImage/BlockSize)*BlockSize); err != nil {
					b.Fatal(err)
				}
			}
		})
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSnapshotCreate takes snapshots of an image that is allocated throughout.
func BenchmarkSnapshotCreate(b *testing.B) {
	r, j := benchReplica(b, true)
	img, _ := r.Image(1)
	b.ResetTimer()
	for i := range b.N {
		builder := events.NewBatchBuilder(nil)
		builder.Append(events.Entry{Before: []events.Position{img.Version()}, Event: events.SnapshotsCreated{
			Name: fmt.Sprintf("s%d", i), First: events.SnapshotID(i + 1), Images: []events.ImageID{1},
		}})
		mustApply(b, r, seal(b, j, builder))
	}
}
