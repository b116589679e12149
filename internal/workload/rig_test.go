package workload_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"tidemark/internal/workload"
)

func drawHistory(t *rapid.T) *history {
	return playWith(workload.Config{
		Seed: rapid.Uint64().Draw(t, "seed"), BlocksMax: 4, LargeMax: 40, Zeroes: true, BlockBytes: 512,
	}, rapid.IntRange(1, 120).Draw(t, "writes"))
}

func TestEveryPrefixWithZeroesPasses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		cut := rapid.IntRange(0, len(h.log)).Draw(t, "cut")
		verdict := h.judge(h.contents(cut, nil))
		if err := verdict.Prefix(); err != nil {
			t.Fatalf("prefix of %d of %d entries: %v", cut, len(h.log), err)
		}
		if err := h.judge(h.contents(len(h.log), nil)).Complete(); err != nil {
			t.Fatalf("the whole log: %v", err)
		}
	})
}

// TestPartOfAWriteIsFound leaves a part of one write out, whatever its kind.
func TestPartOfAWriteIsFound(t *testing.T) {
	found := 0
	for seed := range uint64(200) {
		h := playWith(workload.Config{Seed: seed, BlocksMax: 4, LargeMax: 40, Zeroes: true, BlockBytes: 512}, 60)
		last := h.log[len(h.log)-1]
		if last.Blocks == 1 {
			continue
		}
		old := h.contents(len(h.log)-1, nil)[last.Image]
		images := h.contents(len(h.log), nil)
		first := images[last.Image][last.Offset() : last.Offset()+512]
		if string(first) == string(old[last.Offset():last.Offset()+512]) {
			continue // zeroes over zeroes
		}
		rest := images[last.Image][last.Offset()+512 : last.Offset()+uint64(last.Bytes())]
		if string(rest) == string(old[last.Offset()+512:last.Offset()+uint64(last.Bytes())]) {
			continue
		}
		copy(first, old[last.Offset():])
		if h.judge(images).Prefix() == nil {
			t.Fatalf("seed %d: a part of write %d is missing, and nobody noticed", seed, last.Number)
		}
		found++
	}
	if found < 50 {
		t.Errorf("only %d histories were of use", found)
	}
}

// TestSnapshotHoldsTheRightWrites cuts a history in two: a content of the first part is
// a snapshot of the moment between, one that lacks its last acknowledged write is not,
// and neither is one with a write of the second part.
func TestSnapshotHoldsTheRightWrites(t *testing.T) {
	load := workload.New(workload.Config{Seed: 1, Images: 1, ImageBytes: 32 * 512, BlockBytes: 512, BlocksMax: 2})
	image := make([]byte, 32*512)
	var contents [][]byte
	var ticks []uint64
	for range 20 {
		contents = append(contents, append([]byte(nil), image...))
		ticks = append(ticks, load.Tick())
		w, ok := load.Begin(0)
		if !ok {
			t.Fatal("no place")
		}
		load.Data(w, image[w.Offset():w.Offset()+uint64(w.Bytes())])
		load.Acknowledge(w, 0)
	}
	judge := func(content []byte, begun, ended uint64) error {
		v := load.Verify()
		v.Observe(0, 0, content)
		return v.Between(begun, ended).Prefix()
	}
	for i := 1; i < 19; i++ {
		if err := judge(contents[i], ticks[i], ticks[i]); err != nil {
			t.Errorf("a snapshot at %d: %v", i, err)
		}
		if judge(contents[i-1], ticks[i], math.MaxUint64) == nil {
			t.Errorf("a snapshot at %d without the write before it passes", i)
		}
		if judge(contents[i+1], ticks[i-1], ticks[i]) == nil {
			t.Errorf("a snapshot at %d with the write after it passes", i)
		}
	}
}

// TestContinue takes a prefix for the state of things: what was lost must stay lost, what
// is there must stay, and places of unanswered writes are free again.
func TestContinue(t *testing.T) {
	h, cut := settled()
	kept := h.contents(cut, nil)
	lost := h.contents(len(h.log), nil)
	v := h.load.Verify()
	for i, image := range kept {
		v.Observe(i, 0, image)
	}
	if err := v.Verdict().Prefix(); err != nil {
		t.Fatal(err)
	}
	h.load.Continue(v)
	if err := h.judge(kept).Complete(); err != nil {
		t.Errorf("nothing changed since: %v", err)
	}
	mustFail(t, h.judge(lost), "foreign")
	for range 20 {
		w, ok := h.load.Begin(rand.IntN(testImages))
		if !ok {
			t.Fatal("no place is free after everything was settled")
		}
		h.load.Data(w, kept[w.Image][w.Offset():w.Offset()+uint64(w.Bytes())])
		h.load.Acknowledge(w, 0)
	}
	if err := h.judge(kept).Complete(); err != nil {
		t.Errorf("after more writes: %v", err)
	}
}

// TestForcedUnitAccess: a write with FUA is promised, and what was answered before it.
func TestForcedUnitAccess(t *testing.T) {
	load := workload.New(workload.Config{Seed: 1, Images: 1, ImageBytes: 64 * workload.BlockSize, BlocksMax: 1})
	image := make([]byte, 64*workload.BlockSize)
	one, _ := load.Begin(0)
	load.Acknowledge(one, 0)
	two, _ := load.Begin(0)
	load.AcknowledgeSafe(two, 0)
	three, _ := load.Begin(0)
	load.Acknowledge(three, 0)
	judge := func() workload.Verdict {
		v := load.Verify()
		v.Observe(0, 0, image)
		return v.Verdict()
	}
	if v := judge(); v.Durable() == nil || v.MissingFlushed != 2 || v.Missing != 3 {
		t.Errorf("nothing is there: %+v", v)
	}
	for _, w := range []workload.Write{one, two} {
		load.Data(w, image[w.Offset():w.Offset()+uint64(w.Bytes())])
	}
	if v := judge(); v.Durable() != nil || v.Complete() == nil {
		t.Errorf("only the unflushed one is missing: %+v", v)
	}
}
