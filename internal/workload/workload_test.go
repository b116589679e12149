package workload_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/internal/workload"
)

const (
	testImages = 2
	testBlocks = 64
	testDepth  = 8
)

// history is a run against a log in memory: what was written, in the log's order.
type history struct {
	load *workload.Workload
	log  []workload.Write
	// acked is, for each acknowledged write, how long the log was when it was
	// acknowledged.
	acked map[uint64]int
	// begun is how long the log was when the write was submitted.
	begun map[uint64]int
}

// play submits n writes, at most testDepth in flight; the log takes them in any order
// and acknowledges them later, in any order.
func play(seed uint64, n int) *history {
	return playWith(workload.Config{Seed: seed, BlocksMax: 4}, n)
}

func playWith(cfg workload.Config, n int) *history {
	cfg.Images, cfg.ImageBytes = testImages, testBlocks*workload.BlockSize
	r := rand.New(rand.NewPCG(cfg.Seed, 1))
	h := &history{
		load:  workload.New(cfg),
		acked: map[uint64]int{}, begun: map[uint64]int{},
	}
	var flying, logged []workload.Write
	take := func(from *[]workload.Write) workload.Write {
		i := r.IntN(len(*from))
		w := (*from)[i]
		*from = append((*from)[:i], (*from)[i+1:]...)
		return w
	}
	for step := 0; len(h.begun) < n; step++ {
		switch r.IntN(3) {
		case 0:
			if len(flying)+len(logged) < testDepth {
				if w, ok := h.load.Begin(r.IntN(testImages)); ok {
					h.begun[w.Number] = len(h.log)
					flying = append(flying, w)
				}
			}
		case 1:
			if len(flying) > 0 {
				w := take(&flying)
				h.log = append(h.log, w)
				logged = append(logged, w)
			}
		case 2:
			if len(logged) > 0 {
				w := take(&logged)
				h.load.Acknowledge(w, time.Duration(step)*time.Millisecond)
				h.acked[w.Number] = len(h.log)
			}
		}
	}
	return h
}

// contents returns the images after the first cut entries of the log, without those
// that skip says.
func (h *history) contents(cut int, skip func(workload.Write) bool) [][]byte {
	images := make([][]byte, testImages)
	for i := range images {
		images[i] = make([]byte, testBlocks*workload.BlockSize)
	}
	for _, w := range h.log[:cut] {
		if skip == nil || !skip(w) {
			h.load.Data(w, images[w.Image][w.Offset():w.Offset()+uint64(w.Bytes())])
		}
	}
	return images
}

func (h *history) judge(images [][]byte) workload.Verdict {
	v := h.load.Verify()
	for i, image := range images {
		half := uint64(len(image) / 2)
		v.Observe(i, half, image[half:])
		v.Observe(i, 0, image[:half])
	}
	return v.Verdict()
}

func TestEveryPrefixOfTheLogPasses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := play(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1, 200).Draw(t, "writes"))
		cut := rapid.IntRange(0, len(h.log)).Draw(t, "cut")
		verdict := h.judge(h.contents(cut, nil))
		if err := verdict.Prefix(); err != nil {
			t.Fatalf("prefix of %d of %d entries: %v", cut, len(h.log), err)
		}
		if verdict.Present != cut {
			t.Fatalf("%d writes present, the prefix has %d", verdict.Present, cut)
		}
		complete := h.judge(h.contents(len(h.log), nil))
		if err := complete.Complete(); err != nil {
			t.Fatalf("the whole log: %v", err)
		}
	})
}

// TestAnOrderThatNoLogCouldHaveIsFound checks the verifier against its definition: a
// log without one entry that later entries must follow is refused, and accepted if the
// entry could as well have come after all that is there.
func TestAnOrderThatNoLogCouldHaveIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := play(rapid.Uint64().Draw(t, "seed"), 60)
		if len(h.log) == 0 {
			return
		}
		i := rapid.IntRange(0, len(h.log)-1).Draw(t, "left out")
		out := h.log[i]
		// Only a write that nothing overwrites leaves a trace.
		for _, later := range h.log[i+1:] {
			if later.Image == out.Image && later.First < out.First+uint64(out.Blocks) && out.First < later.First+uint64(later.Blocks) {
				return
			}
		}
		isHole := false
		for _, later := range h.log {
			length, acknowledged := h.acked[out.Number]
			if acknowledged && h.begun[later.Number] >= length && later.Number > out.Number {
				isHole = true
			}
		}
		verdict := h.judge(h.contents(len(h.log), func(w workload.Write) bool { return w.Number == out.Number }))
		err := verdict.Prefix()
		if isHole && h.certain(out) && err == nil {
			t.Fatalf("write %d is missing before others, and nobody noticed", out.Number)
		}
		if !isHole && err != nil {
			t.Fatalf("write %d could have come last: %v", out.Number, err)
		}
	})
}

// certain reports whether some write in the log was begun strictly after the
// acknowledgement: entries were logged in between, so the order of ticks is known.
func (h *history) certain(out workload.Write) bool {
	for _, later := range h.log {
		if h.begun[later.Number] > h.acked[out.Number] {
			return true
		}
	}
	return false
}

// settled plays a history, and returns it with a cut well inside it.
func settled() (*history, int) {
	h := play(7, 400)
	return h, len(h.log) / 2
}

func mustFail(t *testing.T, v workload.Verdict, want string) {
	t.Helper()
	err := v.Prefix()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the verdict is %v, it should say %q", err, want)
	}
}

func TestImagesAtDifferentPositions(t *testing.T) {
	h, cut := settled()
	images := h.contents(cut, nil)
	images[1] = h.contents(len(h.log), nil)[1]
	mustFail(t, h.judge(images), "a hole")
}

func TestHole(t *testing.T) {
	h, cut := settled()
	images := h.contents(cut, nil)
	last := h.log[len(h.log)-1] // and nothing between
	h.load.Data(last, images[last.Image][last.Offset():last.Offset()+uint64(last.Bytes())])
	mustFail(t, h.judge(images), "a hole")
}

func TestTornBlock(t *testing.T) {
	h, cut := settled()
	images := h.contents(cut, nil)
	w := h.log[cut-1]
	clear(images[w.Image][w.Offset()+workload.BlockSize/2 : w.Offset()+workload.BlockSize])
	mustFail(t, h.judge(images), "torn")
}

func TestWriteOfWhichOnlyAPartIsThere(t *testing.T) {
	h, cut := settled()
	for h.log[cut-1].Blocks == 1 {
		cut++
	}
	w := h.log[cut-1]
	images := h.contents(cut, nil)
	before := h.contents(cut-1, nil)[w.Image]
	copy(images[w.Image][w.Offset():w.Offset()+workload.BlockSize], before[w.Offset():])
	mustFail(t, h.judge(images), "of its blocks are there")
}

func TestForeignData(t *testing.T) {
	h, cut := settled()
	other := play(8, 400)
	t.Run("of another run", func(t *testing.T) {
		images := h.contents(cut, nil)
		w := other.log[0]
		other.load.Data(w, images[w.Image][w.Offset():w.Offset()+uint64(w.Bytes())])
		mustFail(t, h.judge(images), "foreign")
	})
	t.Run("at the wrong place", func(t *testing.T) {
		images := h.contents(cut, nil)
		w := h.log[cut-1]
		block := images[w.Image][w.Offset() : w.Offset()+workload.BlockSize]
		to := (w.Offset() + 32*workload.BlockSize) % uint64(len(images[0]))
		copy(images[w.Image][to:], block)
		mustFail(t, h.judge(images), "foreign")
	})
	t.Run("in the wrong image", func(t *testing.T) {
		images := h.contents(cut, nil)
		images[0], images[1] = images[1], images[0]
		mustFail(t, h.judge(images), "foreign")
	})
	t.Run("noise", func(t *testing.T) {
		images := h.contents(cut, nil)
		copy(images[0][3*workload.BlockSize:], bytes.Repeat([]byte{0xa5}, workload.BlockSize))
		mustFail(t, h.judge(images), "nobody wrote")
	})
}

func TestLostAcknowledgedWrites(t *testing.T) {
	h, cut := settled()
	v := h.judge(h.contents(cut, nil))
	if err := v.Prefix(); err != nil {
		t.Fatalf("a prefix: %v", err)
	}
	if v.Complete() == nil || v.Missing == 0 || v.MissingBytes < int64(v.Missing)*workload.BlockSize || v.MissingTime <= 0 {
		t.Errorf("half of the writes are lost, the verdict says %+v", v)
	}
	if v.MissingFlushed != 0 {
		t.Errorf("nothing was flushed, the verdict says %d", v.MissingFlushed)
	}
	h.load.EndFlush(h.load.BeginFlush())
	if v := h.judge(h.contents(cut, nil)); v.MissingFlushed != v.Missing {
		t.Errorf("%d of %d missing writes count as flushed; all were", v.MissingFlushed, v.Missing)
	}
}

func TestContentThatWasNotLookedAt(t *testing.T) {
	h, cut := settled()
	v := h.load.Verify()
	v.Observe(0, 0, h.contents(cut, nil)[0])
	mustFail(t, v.Verdict(), "not looked at")
}

func TestWritesInFlightNeverOverlap(t *testing.T) {
	load := workload.New(workload.Config{Seed: 1, Images: 1, ImageBytes: 16 * workload.BlockSize, BlocksMax: 4})
	covered := map[uint64]bool{}
	for {
		w, ok := load.Begin(0)
		if !ok {
			break
		}
		for b := range uint64(w.Blocks) {
			if covered[w.First+b] {
				t.Fatalf("block %d is covered twice", w.First+b)
			}
			covered[w.First+b] = true
		}
	}
	if len(covered) < 8 {
		t.Errorf("only %d of 16 blocks could be used", len(covered))
	}
	if n, _ := load.Written(); n != 0 {
		t.Errorf("%d writes count as acknowledged", n)
	}
}
