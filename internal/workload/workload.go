package workload

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Config says what is written.
type Config struct {
	Seed       uint64
	Images     int
	ImageBytes uint64 // a multiple of the block size
	// BlockBytes is the unit of every write: a multiple of 8, at least 64; zero is
	// [BlockSize].
	BlockBytes int
	// BlocksMax is the largest write, in blocks. It must be no more than what the
	// system under test keeps whole: a write of which only a part is there is a fault.
	BlocksMax int
	// LargeMax is the size of the largest of the few large writes, in blocks; zero: none.
	LargeMax int
	// Zeroes makes some of the writes ones of zeroes.
	Zeroes bool
}

const (
	largeOneIn  = 24
	zeroesOneIn = 5
)

// Write is one write of whole blocks.
type Write struct {
	Number uint64 // from 1, over all images
	Image  int
	First  uint64 // block
	Blocks int
	Zeroes bool // its blocks read as zeroes afterwards
	unit   uint64
}

// Offset returns where the write begins, in bytes.
func (w Write) Offset() uint64 { return w.First * w.unit }

// Bytes returns the write's length.
func (w Write) Bytes() int { return w.Blocks * int(w.unit) }

// Workload chooses writes and keeps the log of them. Its methods may be called by
// several goroutines.
type Workload struct {
	cfg    Config
	unit   uint64
	blocks uint64 // of one image

	mu      sync.Mutex
	random  *rand.Rand
	clock   uint64     // ticks at each submission and acknowledgement
	base    [][]uint64 // by image and block: the write it held before those of the log, 0 for zeroes
	before  uint64     // number of the last write before the log
	log     []record
	busy    []map[uint64]bool // by image: blocks that a write in flight covers
	safe    uint64            // what was acknowledged before this tick has been flushed
	written int               // acknowledged writes, of all time
	bytes   int64             // of those
}

// record is what is known of one write: record i is of write before+i+1.
type record struct {
	Write
	submitted    uint64
	acknowledged uint64 // 0: never
	at           time.Duration
	durable      bool // it was acknowledged as safe
}

// New returns a workload that has written nothing.
func New(cfg Config) *Workload {
	if cfg.BlockBytes == 0 {
		cfg.BlockBytes = BlockSize
	}
	w := &Workload{cfg: cfg, unit: uint64(cfg.BlockBytes), random: rand.New(rand.NewPCG(cfg.Seed, 0))}
	w.blocks = cfg.ImageBytes / w.unit
	for range cfg.Images {
		w.base = append(w.base, make([]uint64, w.blocks))
		w.busy = append(w.busy, map[uint64]bool{})
	}
	return w
}

const (
	placesTried = 64
	// hotShare of the writes go to the first hotPart of an image, so that many blocks
	// are written more than once.
	hotShare = 4
	hotPart  = 8
)

// Begin chooses a write to an image and notes that it is submitted: it must be called
// before the write is sent. ok is false when no free place was found, because too many
// writes are in flight (one that failed stays in flight until [Workload.Continue]: nobody
// knows whether it is there).
func (w *Workload) Begin(image int) (next Write, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range placesTried {
		next = w.choose(image)
		if !w.free(next) {
			continue
		}
		next.Number = w.before + uint64(len(w.log)) + 1
		for b := range uint64(next.Blocks) {
			w.busy[image][next.First+b] = true
		}
		w.clock++
		w.log = append(w.log, record{Write: next, submitted: w.clock})
		return next, true
	}
	return Write{}, false
}

func (w *Workload) choose(image int) Write {
	largest := w.cfg.BlocksMax
	if w.cfg.LargeMax > 0 && w.random.IntN(largeOneIn) == 0 {
		largest = w.cfg.LargeMax
	}
	n := uint64(1 + w.random.IntN(largest))
	span := w.blocks
	if w.random.IntN(hotShare) == 0 {
		span = max(w.blocks/hotPart, 1)
	}
	first := w.random.Uint64N(span)
	zeroes := w.cfg.Zeroes && w.random.IntN(zeroesOneIn) == 0
	return Write{Image: image, First: first, Blocks: int(min(n, w.blocks-first)), Zeroes: zeroes, unit: w.unit}
}

func (w *Workload) free(n Write) bool {
	for b := range uint64(n.Blocks) {
		if w.busy[n.Image][n.First+b] {
			return false
		}
	}
	return true
}

// Data fills p with the write's content; p is [Write.Bytes] long.
func (w *Workload) Data(n Write, p []byte) {
	if n.Zeroes {
		clear(p)
		return
	}
	unit := int(w.unit)
	for b := range n.Blocks {
		id := blockID{w.cfg.Seed, uint64(n.Image), n.First + uint64(b), n.Number}
		id.fill(p[b*unit : (b+1)*unit])
	}
}

// Acknowledge notes that a write was answered, at a time since the run began. It must
// be called after the answer has come.
func (w *Workload) Acknowledge(n Write, at time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acknowledge(n, at)
}

func (w *Workload) acknowledge(n Write, at time.Duration) *record {
	w.clock++
	r := &w.log[n.Number-w.before-1]
	r.acknowledged, r.at = w.clock, at
	for b := range uint64(n.Blocks) {
		delete(w.busy[n.Image], n.First+b)
	}
	w.written++
	w.bytes += int64(n.Bytes())
	return r
}

// AcknowledgeSafe is [Workload.Acknowledge] for a write with FUA: it is safe, and so is
// what was acknowledged before it was submitted.
func (w *Workload) AcknowledgeSafe(n Write, at time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.acknowledge(n, at)
	r.durable = true
	w.safe = max(w.safe, r.submitted)
}

// BeginFlush notes that a flush is submitted, before it is sent, and returns what
// [Workload.EndFlush] needs.
func (w *Workload) BeginFlush() uint64 { return w.Tick() }

// Tick returns the present time: it is after everything that was noted, and before
// everything that will be.
func (w *Workload) Tick() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock++
	return w.clock
}

// EndFlush notes that a flush was answered.
func (w *Workload) EndFlush(begun uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.safe = max(w.safe, begun)
}

// Continue takes what a verifier was shown for the state from which the writes go on,
// and forgets those before: none of them may be in flight any more. It is for a crash,
// after which nobody answers what was under way.
func (w *Workload) Continue(v *Verifier) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before += uint64(len(w.log))
	w.log = nil
	w.base = v.content
	for i := range w.busy {
		clear(w.busy[i])
	}
}

// Written returns how many writes, and bytes of them, were acknowledged.
func (w *Workload) Written() (writes int, bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written, w.bytes
}
