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
	unit    uint64
	before  uint64
	base    [][]uint64
	log     []record
	safe    uint64
	content [][]uint64 // by image and block: the write it holds, 0 for zeroes
	seen    [][]bool
	strange faults // found while looking
}

// faults collects what is wrong.
type faults struct {
	count int
	shown []string
}

func (f *faults) add(format string, args ...any) {
	f.count++
	if len(f.shown) < faultsShown {
		f.shown = append(f.shown, fmt.Errorf(format, args...).Error())
	}
}

// Verify returns a verifier for what was noted so far.
func (w *Workload) Verify() *Verifier {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := &Verifier{seed: w.cfg.Seed, unit: w.unit, before: w.before, base: w.base, log: append([]record(nil), w.log...), safe: w.safe}
	for range w.cfg.Images {
		v.content = append(v.content, make([]uint64, w.blocks))
		v.seen = append(v.seen, make([]bool, w.blocks))
	}
	return v
}

// Observe shows the verifier what an image holds from offset on. offset and the length
// are multiples of the block size; the order does not matter.
func (v *Verifier) Observe(image int, offset uint64, p []byte) {
	for ; uint64(len(p)) >= v.unit; p, offset = p[v.unit:], offset+v.unit {
		block := offset / v.unit
		if block >= uint64(len(v.content[image])) {
			v.strange.add("image %d is larger than it was made", image)
			return
		}
		v.seen[image][block] = true
		id, written, err := readBlock(p[:v.unit])
		switch {
		case err != nil:
			v.strange.add("image %d, block %d: %w", image, block, err)
		case !written:
		case !v.known(id, image, block):
			v.strange.add("image %d, block %d: foreign data (it says: image %d, block %d, write %d)", image, block, id.image, id.block, id.write)
		default:
			v.content[image][block] = id.write
		}
	}
}

// known reports whether a write of this run put the block here, and it could be there
// now.
func (v *Verifier) known(id blockID, image int, block uint64) bool {
	if id.seed != v.seed || id.image != uint64(image) || id.block != block || id.write == 0 {
		return false
	}
	if id.write <= v.before {
		return v.base[image][block] == id.write
	}
	if id.write > v.before+uint64(len(v.log)) {
		return false
	}
	w := v.log[id.write-v.before-1]
	return !w.Zeroes && w.Image == image && block >= w.First && block-w.First < uint64(w.Blocks)
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
	// Missing counts the acknowledged writes that the content does not hold, MissingData
	// those of them that are not of zeroes: one of zeroes may be there unseen.
	Missing, MissingData int
	MissingBytes         int64
	// MissingTime is from the acknowledgement of the oldest missing write to the last
	// acknowledgement of all.
	MissingTime time.Duration
	// MissingFlushed counts those of them that a flush had promised.
	MissingFlushed int
	// FirstMissing spells one of the missing writes out.
	FirstMissing string
}

// Verdict judges what was observed.
func (v *Verifier) Verdict() Verdict {
	v.demandAll()
	all := v.explain(func(r record) bool { return r.acknowledged != 0 })
	best := all
	for _, floor := range []func(record) bool{v.promised, func(record) bool { return false }} {
		if best.faults.count > 0 {
			best = v.explain(floor)
		}
	}
	out := v.count(best)
	out.FaultCount = v.strange.count + best.faults.count
	out.Faults = append(append(out.Faults, v.strange.shown...), best.faults.shown...)
	if len(all.faults.shown) > 0 {
		out.FirstMissing = all.faults.shown[0]
	}
	return out
}

// Between judges the content as that of a snapshot, which was asked for and answered at
// two moments of [Workload.Tick]: everything acknowledged before is in it, and nothing
// submitted after. ended is [math.MaxUint64] if it was never answered.
func (v *Verifier) Between(begun, ended uint64) Verdict {
	v.demandAll()
	least := v.explain(func(r record) bool { return r.acknowledged != 0 && r.acknowledged < begun })
	for i, r := range v.log {
		if least.present[i] && r.submitted > ended {
			least.faults.add("write %d is in the snapshot, but was submitted after it was made", r.Number)
		}
	}
	out := v.count(least)
	out.FaultCount = v.strange.count + least.faults.count
	out.Faults = append(append(out.Faults, v.strange.shown...), least.faults.shown...)
	return out
}

// promised reports whether a flush has promised a write.
func (v *Verifier) promised(r record) bool {
	return r.durable || r.acknowledged != 0 && r.acknowledged < v.safe
}

// count tells what a set of present writes leaves out.
func (v *Verifier) count(e explanation) Verdict {
	out := Verdict{Submitted: len(v.log)}
	var lastAt time.Duration
	missingAt := time.Duration(math.MaxInt64)
	for i, r := range v.log {
		if r.acknowledged != 0 {
			out.Acknowledged++
			lastAt = max(lastAt, r.at)
		}
		switch {
		case e.present[i]:
			out.Present++
		case r.acknowledged != 0:
			out.Missing++
			if !r.Zeroes {
				out.MissingData++
			}
			out.MissingBytes += int64(r.Bytes())
			missingAt = min(missingAt, r.at)
			if v.promised(r) {
				out.MissingFlushed++
			}
		}
	}
	if out.Missing > 0 {
		out.MissingTime = lastAt - missingAt
	}
	return out
}

// demandAll notes blocks that nobody showed: a verdict without them would be none.
func (v *Verifier) demandAll() {
	for image, blocks := range v.seen {
		for block, seen := range blocks {
			if !seen {
				v.strange.add("image %d, block %d: it was not looked at", image, block)
			}
		}
	}
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

// Durable returns nil if the content is a prefix that holds every write that was
// flushed.
func (v Verdict) Durable() error {
	if err := v.Prefix(); err != nil {
		return err
	}
	if v.MissingFlushed > 0 {
		return fmt.Errorf("%d flushed writes are missing: %s", v.MissingFlushed, v.FirstMissing)
	}
	return nil
}
