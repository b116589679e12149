package workload_test

import (
	"bytes"
	"testing"
	"time"

	"tidemark/internal/workload"
)

// write performs one acknowledged write on the contents of all images.
func write(t *testing.T, load *workload.Workload, images [][]byte) {
	t.Helper()
	w, ok := load.Begin(0)
	if !ok {
		t.Fatal("no place is free")
	}
	load.Data(w, images[w.Image][w.Offset():w.Offset()+uint64(w.Bytes())])
	load.Acknowledge(w, time.Millisecond)
}

func observe(load *workload.Workload, images [][]byte) *workload.Verifier {
	v := load.Verify()
	for i, image := range images {
		v.Observe(i, 0, image)
	}
	return v
}

// TestFork parts a history at a prefix: each side takes its own content, before and after
// it was written to, and never that of the other.
func TestFork(t *testing.T) {
	h, cut := settled()
	lost := h.judge(h.contents(cut, nil))
	if lost.Missing == 0 {
		t.Fatal("the prefix holds everything: this test shows nothing")
	}
	here, there := h.contents(cut, nil), h.contents(len(h.log), nil)
	apart := h.load.Fork(observe(h.load, here))
	both := func(when string) {
		t.Helper()
		if err := observe(h.load, here).Verdict().Complete(); err != nil {
			t.Errorf("%s, what goes on from the prefix: %v", when, err)
		}
		if err := observe(apart, there).Verdict().Complete(); err != nil {
			t.Errorf("%s, what goes on from everything: %v", when, err)
		}
		mustFail(t, observe(h.load, there).Verdict(), "foreign")
	}
	both("parted")
	for range 50 {
		write(t, h.load, here)
		write(t, apart, there)
	}
	both("written to")
	mustFail(t, observe(apart, here).Verdict(), "foreign")
	// What was cut off stays cut off: one lost block that comes back is found.
	changed := bytes.Clone(here[0])
	for at := 0; at < len(changed); at += workload.BlockSize {
		old := h.contents(len(h.log), nil)[0][at : at+workload.BlockSize]
		if !bytes.Equal(old, here[0][at:at+workload.BlockSize]) {
			copy(changed[at:], old)
			mustFail(t, observe(h.load, [][]byte{changed, here[1]}).Verdict(), "")
			return
		}
	}
}
