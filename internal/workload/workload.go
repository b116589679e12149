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
	ImageBytes uint64 // a multiple of BlockSize
	// BlocksMax is the largest write, in blocks. It must be no more than what the
	// system under test keeps whole: a write of which only a part is there is a fault.
	BlocksMax int
}

// Write is one write of whole blocks.
type Write struct {
	Number uint64 // from 1, over all images
	Image  int
	First  uint64 // block
	Blocks int
}

// Offset returns where the write begins, in bytes.
func (w Write) Offset() uint64 { return w.First * BlockSize }

// Bytes returns the write's length.
func (w Write) Bytes() int { return w.Blocks * BlockSize }

// Workload chooses writes and keeps the log of them. Its methods may be called by
// several goroutines.
type Workload struct {
	cfg    Config
	blocks uint64 // of one image

	mu     sync.Mutex
	random *rand.Rand
	clock  uint64 // ticks at each submission and acknowledgement
	log    []record
	busy   []map[uint64]bool // by image: blocks that a write in flight covers
	safe   uint64            // what was acknowledged before this tick has been flushed
}

// record is what is known of one write: record i is of write i+1.
type record struct {
	Write
	submitted    uint64
	acknowledged uint64 // 0: never
	at           time.Duration
}

// New returns a workload that has written nothing.
func New(cfg Config) *Workload {
	w := &Workload{
		cfg:    cfg,
		blocks: cfg.ImageBytes / BlockSize,
		random: rand.New(rand.NewPCG(cfg.Seed, 0)),
		busy:   make([]map[uint64]bool, cfg.Images),
	}
	for i := range w.busy {
		w.busy[i] = map[uint64]bool{}
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
// writes are in flight (one that failed stays in flight for ever: nobody knows whether
// it is there).
func (w *Workload) Begin(image int) (next Write, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range placesTried {
		next = w.choose(image)
		if !w.free(next) {
			continue
		}
		next.Number = uint64(len(w.log)) + 1
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
	n := uint64(1 + w.random.IntN(w.cfg.BlocksMax))
	span := w.blocks
	if w.random.IntN(hotShare) == 0 {
		span = max(w.blocks/hotPart, 1)
	}
	first := w.random.Uint64N(span)
	return Write{Image: image, First: first, Blocks: int(min(n, w.blocks-first))}
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
	for b := range n.Blocks {
		id := blockID{w.cfg.Seed, uint64(n.Image), n.First + uint64(b), n.Number}
		id.fill(p[b*BlockSize : (b+1)*BlockSize])
	}
}

// Acknowledge notes that a write was answered, at a time since the run began. It must
// be called after the answer has come.
func (w *Workload) Acknowledge(n Write, at time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock++
	r := &w.log[n.Number-1]
	r.acknowledged, r.at = w.clock, at
	for b := range uint64(n.Blocks) {
		delete(w.busy[n.Image], n.First+b)
	}
}

// BeginFlush notes that a flush is submitted, before it is sent, and returns what
// [Workload.EndFlush] needs.
func (w *Workload) BeginFlush() uint64 {
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

// Written returns how many writes, and bytes of them, were acknowledged.
func (w *Workload) Written() (writes int, bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.log {
		if r.acknowledged != 0 {
			writes++
			bytes += int64(r.Bytes())
		}
	}
	return writes, bytes
}
