package workload

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// faultsShown bounds the faults that a verdict spells out.
const faultsShown = 5

// Verifier is shown all of the images' content and judges it.
type Verifier struct {
	seed    uint64
	log     []record
	safe    uint64
	content [][]uint64 // by image and block: the write it holds, 0 for none
	seen    [][]bool
	verdict Verdict
}

// Verify returns a verifier for what was noted so far.
func (w *Workload) Verify() *Verifier {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := &Verifier{seed: w.cfg.Seed, log: append([]record(nil), w.log...), safe: w.safe}
	for range w.cfg.Images {
		v.content = append(v.content, make([]uint64, w.blocks))
		v.seen = append(v.seen, make([]bool, w.blocks))
	}
	return v
}

// Observe shows the verifier what an image holds from offset on. offset and the length
// are multiples of BlockSize; the order does not matter.
func (v *Verifier) Observe(image int, offset uint64, p []byte) {
	for ; len(p) >= BlockSize; p, offset = p[BlockSize:], offset+BlockSize {
		block := offset / BlockSize
		if block >= uint64(len(v.content[image])) {
			v.fault("image %d is larger than it was made", image)
			return
		}
		v.seen[image][block] = true
		id, written, err := readBlock(p[:BlockSize])
		switch {
		case err != nil:
			v.fault("image %d, block %d: %w", image, block, err)
		case !written:
		case !v.known(id, image, block):
			v.fault("image %d, block %d: foreign data (it says: image %d, block %d, write %d)", image, block, id.image, id.block, id.write)
		default:
			v.content[image][block] = id.write
		}
	}
}

// known reports whether a write of this run put the block here.
func (v *Verifier) known(id blockID, image int, block uint64) bool {
	if id.seed != v.seed || id.image != uint64(image) || id.block != block || id.write == 0 || id.write > uint64(len(v.log)) {
		return false
	}
	w := v.log[id.write-1]
	return w.Image == image && block >= w.First && block-w.First < uint64(w.Blocks)
}

func (v *Verifier) fault(format string, args ...any) {
	v.verdict.FaultCount++
	if len(v.verdict.Faults) < faultsShown {
		v.verdict.Faults = append(v.verdict.Faults, fmt.Errorf(format, args...).Error())
	}
}

// Verdict is what the content of all images together amounts to.
type Verdict struct {
	// Faults says why the content is no prefix of what was written, at one position
	// over all images; the first few are spelt out.
	Faults     []string
	FaultCount int
	Submitted  int // writes
	// Acknowledged counts the writes that were answered, Present those of all writes
	// that the content holds or that a present one overwrote.
	Acknowledged, Present int
	// Missing counts the acknowledged writes that the content does not hold.
	Missing      int
	MissingBytes int64
	// MissingTime is from the acknowledgement of the oldest missing write to the last
	// acknowledgement of all.
	MissingTime time.Duration
	// MissingFlushed counts those of them that a flush had promised.
	MissingFlushed int
}

// Verdict judges what was observed.
func (v *Verifier) Verdict() Verdict {
	v.demandAll()
	var lastPresent, firstMissing record
	firstMissing.acknowledged = math.MaxUint64
	var lastAt, missingAt time.Duration
	missingAt = math.MaxInt64
	out := &v.verdict
	out.Submitted = len(v.log)
	for _, r := range v.log {
		answered := r.acknowledged != 0
		if answered {
			out.Acknowledged++
			lastAt = max(lastAt, r.at)
		}
		switch held := v.held(r.Write); {
		case held == r.Blocks:
			out.Present++
			if r.submitted > lastPresent.submitted {
				lastPresent = r
			}
			continue
		case held > 0:
			v.fault("write %d (image %d, block %d, %d blocks): only %d of its blocks are there", r.Number, r.Image, r.First, r.Blocks, held)
		}
		if !answered {
			continue
		}
		out.Missing++
		out.MissingBytes += int64(r.Bytes())
		missingAt = min(missingAt, r.at)
		if r.acknowledged < v.safe {
			out.MissingFlushed++
		}
		if r.acknowledged < firstMissing.acknowledged {
			firstMissing = r
		}
	}
	if firstMissing.acknowledged < lastPresent.submitted {
		v.fault("a hole: write %d (image %d, block %d) is missing, but was acknowledged before write %d (image %d, block %d) was submitted, which is there",
			firstMissing.Number, firstMissing.Image, firstMissing.First, lastPresent.Number, lastPresent.Image, lastPresent.First)
	}
	if out.Missing > 0 {
		out.MissingTime = lastAt - missingAt
	}
	return *out
}

// demandAll notes blocks that nobody showed: a verdict without them would be none.
func (v *Verifier) demandAll() {
	for image, blocks := range v.seen {
		for block, seen := range blocks {
			if !seen {
				v.fault("image %d, block %d: it was not looked at", image, block)
			}
		}
	}
}

// held counts the blocks of a write that hold it or a later one.
func (v *Verifier) held(w Write) int {
	n := 0
	for b := range uint64(w.Blocks) {
		if v.content[w.Image][w.First+b] >= w.Number {
			n++
		}
	}
	return n
}

// Prefix returns nil if the content is a prefix of what was written, at one position
// over all images.
func (v Verdict) Prefix() error {
	if v.FaultCount == 0 {
		return nil
	}
	text := strings.Join(v.Faults, "; ")
	if more := v.FaultCount - len(v.Faults); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return fmt.Errorf("not a prefix of what was written: %s", text)
}

// Complete returns nil if the content is a prefix that holds every acknowledged write.
func (v Verdict) Complete() error {
	if err := v.Prefix(); err != nil {
		return err
	}
	if v.Missing > 0 {
		return fmt.Errorf("%d acknowledged writes (%d bytes) are missing", v.Missing, v.MissingBytes)
	}
	return nil
}
