package workload

import (
	"cmp"
	"slices"
)

// explanation is the smallest closed set of writes that explains a content, or the
// faults that say why there is none.
type explanation struct {
	present []bool // by index in the log
	faults  faults
}

// explainer grows an explanation.
type explainer struct {
	*Verifier
	explanation
	history [][][]int // by image and block: indices of the writes that cover it, in order
	needed  [][]int   // by image and block: how many of those are present for certain
	answers []int     // indices of the answered writes, by acknowledgement
	closed  int       // so many of answers are known to come before a present write
	cause   []int     // by index: the present write that made it so, -1 for none
	unseen  []int     // writes that became present, and whose blocks are to be looked at
}

// explain returns the smallest explanation with all writes that floor demands.
func (v *Verifier) explain(floor func(record) bool) explanation {
	e := &explainer{Verifier: v, explanation: explanation{present: make([]bool, len(v.log))}, cause: make([]int, len(v.log))}
	for image := range v.content {
		e.history = append(e.history, make([][]int, len(v.content[image])))
		e.needed = append(e.needed, make([]int, len(v.content[image])))
	}
	for i, r := range v.log {
		for b := range uint64(r.Blocks) {
			blocks := e.history[r.Image]
			blocks[r.First+b] = append(blocks[r.First+b], i)
		}
		if r.acknowledged != 0 {
			e.answers = append(e.answers, i)
		}
	}
	slices.SortFunc(e.answers, func(a, b int) int { return cmp.Compare(v.log[a].acknowledged, v.log[b].acknowledged) })
	for i, r := range v.log {
		if floor(r) {
			e.include(i, -1)
		}
	}
	e.settle()
	for image := range v.content {
		for block := range v.content[image] {
			e.look(image, uint64(block))
			e.settle()
		}
	}
	return e.explanation
}

// include makes a write present, and all that must come before it.
func (e *explainer) include(i, cause int) {
	if e.present[i] {
		return
	}
	e.present[i], e.cause[i] = true, cause
	e.unseen = append(e.unseen, i)
	for ; e.closed < len(e.answers); e.closed++ {
		earlier := e.answers[e.closed]
		if e.log[earlier].acknowledged >= e.log[i].submitted {
			return
		}
		if !e.present[earlier] {
			e.present[earlier], e.cause[earlier] = true, i
			e.unseen = append(e.unseen, earlier)
		}
	}
}

// settle looks at the blocks of all writes that became present.
func (e *explainer) settle() {
	for len(e.unseen) > 0 {
		i := e.unseen[len(e.unseen)-1]
		e.unseen = e.unseen[:len(e.unseen)-1]
		r := e.log[i]
		for b := r.First; b < r.First+uint64(r.Blocks); b++ {
			at := slices.Index(e.history[r.Image][b], i) + 1
			if at > e.needed[r.Image][b] {
				e.needed[r.Image][b] = at
				e.look(r.Image, b)
			}
		}
	}
}

// look explains one block: by the writes that are present, or else by the next one that
// left what it holds.
func (e *explainer) look(image int, block uint64) {
	writes := e.history[image][block]
	for n := e.needed[image][block]; n <= len(writes); n++ {
		if e.after(image, block, n) != e.content[image][block] {
			continue
		}
		if n > e.needed[image][block] {
			e.include(writes[n-1], -1)
		}
		return
	}
	e.blame(image, block)
}

// after returns what a block holds after so many of its writes.
func (e *explainer) after(image int, block uint64, n int) uint64 {
	if n == 0 {
		return e.base[image][block]
	}
	r := e.log[e.history[image][block][n-1]]
	if r.Zeroes {
		return 0
	}
	return r.Number
}

// blame says why a block cannot be explained.
func (e *explainer) blame(image int, block uint64) {
	n := e.needed[image][block]
	if n == 0 {
		e.faults.add("image %d, block %d: it holds write %d, which was not the last one there", image, block, e.content[image][block])
		return
	}
	i := e.history[image][block][n-1]
	r := e.log[i]
	switch held := e.held(r); {
	case held > 0:
		e.faults.add("write %d (image %d, block %d, %d blocks): only %d of its blocks are there", r.Number, r.Image, r.First, r.Blocks, held)
	case e.cause[i] >= 0:
		later := e.log[e.cause[i]]
		e.faults.add("a hole: write %d (image %d, block %d) is missing, but was acknowledged before write %d (image %d, block %d) was submitted, which is there",
			r.Number, r.Image, r.First, later.Number, later.Image, later.First)
	default:
		e.faults.add("write %d (image %d, block %d, %d blocks) is missing: block %d holds write %d", r.Number, r.Image, r.First, r.Blocks, block, e.content[image][block])
	}
}

// held counts the blocks that show a write for certain.
func (e *explainer) held(r record) int {
	n := 0
	for b := r.First; b < r.First+uint64(r.Blocks); b++ {
		if e.content[r.Image][b] == r.Number {
			n++
		}
	}
	return n
}
