package nbdtest

import (
	"context"
	"slices"
	"sync"

	"tidemark/internal/nbd"
)

// pageBytes is the grain in which a disk knows what is allocated.
const pageBytes = 64 << 10

// Op is one change that a disk was asked for.
type Op struct {
	Kind   string // "write", "zero", "trim" or "flush"
	Offset uint64
	Length uint64
	FUA    bool
	NoHole bool
}

// Disk is an export in memory. Its methods may be used from any goroutine; what is set
// holds for requests that come later.
type Disk struct {
	info  nbd.Info
	ended chan struct{}

	mu      sync.RWMutex // guards everything below
	data    []byte
	pages   []bool // allocated
	ops     []Op
	record  bool
	refuse  error
	failure error
	open    int
	closed  int
	hold    chan struct{} // not nil: requests are answered when it is closed
	arrived chan struct{} // gets one for each held request
}

// NewDisk returns an empty disk.
func NewDisk(info nbd.Info) *Disk {
	return &Disk{
		info:    info,
		ended:   make(chan struct{}),
		data:    make([]byte, info.Size),
		pages:   make([]bool, (info.Size+pageBytes-1)/pageBytes),
		arrived: make(chan struct{}, 1<<16),
	}
}

// Refuse lets Open fail from now on; nil lets it succeed again.
func (d *Disk) Refuse(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse = err
}

// Fail lets requests fail from now on; nil lets them succeed again.
func (d *Disk) Fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failure = err
}

// Record makes the disk remember its changes, for Ops.
func (d *Disk) Record() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.record = true
}

// Ops returns the changes since Record, in order of arrival.
func (d *Disk) Ops() []Op {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.Clone(d.ops)
}

// Hold keeps the answers to requests back until the returned function is called.
func (d *Disk) Hold() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	hold := make(chan struct{})
	d.hold = hold
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.hold = nil
		close(hold)
	})
}

// Arrived gets one value for each request that is held back.
func (d *Disk) Arrived() <-chan struct{} { return d.arrived }

// End ends the export, for every session.
func (d *Disk) End() { close(d.ended) }

// Sessions returns how many handles were opened and how many of them closed.
func (d *Disk) Sessions() (opened, closed int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.open, d.closed
}

// Bytes returns a copy of a range.
func (d *Disk) Bytes(off, n uint64) []byte {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.Clone(d.data[off : off+n])
}

// handle is a session's handle on a disk.
type handle struct{ *Disk }

func (h *handle) Info() nbd.Info { return h.info }

func (h *handle) Ended() <-chan struct{} { return h.ended }

func (h *handle) Close(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed++
	return nil
}

func (h *handle) Write(ctx context.Context, p []byte, off uint64, fua bool, done func(error)) {
	h.change(ctx, Op{Kind: "write", Offset: off, Length: uint64(len(p)), FUA: fua}, done, func() {
		copy(h.data[off:], p)
		h.mark(off, uint64(len(p)), true)
	})
}

func (h *handle) Zero(ctx context.Context, z nbd.ZeroRequest, done func(error)) {
	op := Op{Kind: "zero", Offset: z.Offset, Length: z.Length, FUA: z.FUA, NoHole: z.NoHole}
	if z.Trim {
		op.Kind = "trim"
	}
	h.change(ctx, op, done, func() {
		clear(h.data[z.Offset : z.Offset+z.Length])
		h.mark(z.Offset, z.Length, z.NoHole)
	})
}

func (h *handle) Flush(ctx context.Context, done func(error)) {
	h.change(ctx, Op{Kind: "flush"}, done, func() {})
}

// change applies an op under the lock and answers it, now or when the hold ends.
func (h *handle) change(ctx context.Context, op Op, done func(error), apply func()) {
	h.mu.Lock()
	if h.record {
		h.ops = append(h.ops, op)
	}
	err, hold := h.failure, h.hold
	if err == nil {
		apply()
	}
	h.mu.Unlock()
	if hold == nil {
		done(err)
		return
	}
	h.arrived <- struct{}{}
	go func() {
		select {
		case <-hold:
			done(err)
		case <-ctx.Done():
			done(ctx.Err())
		}
	}()
}

// mark notes which pages are allocated. Freeing spares those that it covers in part.
func (h *handle) mark(off, n uint64, allocated bool) {
	first, last := off/pageBytes, (off+n+pageBytes-1)/pageBytes
	if !allocated {
		first, last = (off+pageBytes-1)/pageBytes, (off+n)/pageBytes
	}
	for i := first; i < last; i++ {
		h.pages[i] = allocated
	}
}

func (h *handle) ReadAt(ctx context.Context, p []byte, off uint64) error {
	h.mu.RLock()
	err, hold := h.failure, h.hold
	if err == nil {
		copy(p, h.data[off:])
	}
	h.mu.RUnlock()
	if hold != nil {
		h.arrived <- struct{}{}
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (h *handle) Extents(_ context.Context, off, length uint64) ([]nbd.Extent, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.failure != nil {
		return nil, h.failure
	}
	var out []nbd.Extent
	for end := off + length; off < end; {
		n := min(pageBytes-off%pageBytes, end-off)
		hole := !h.pages[off/pageBytes]
		out = append(out, nbd.Extent{Length: n, Hole: hole, Zero: hole})
		off += n
	}
	return out, nil
}
