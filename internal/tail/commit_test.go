package tail

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// slowDisk lets each operation of one kind on a file wait until it may go on.
type slowDisk struct {
	vfs.FS
	kind    vfs.OpKind
	ended   <-chan struct{} // of the test: nothing waits any more
	waiting atomic.Int64    // operations that wait or have waited
	pass    chan struct{}
}

// slow puts a slow disk under a rig.
func slow(r *rig, kind vfs.OpKind) *slowDisk {
	s := &slowDisk{FS: r.fs, kind: kind, ended: r.t.Context().Done(), pass: make(chan struct{})}
	r.fs = s
	return s
}

func (s *slowDisk) wait(kind vfs.OpKind) {
	if kind != s.kind {
		return
	}
	s.waiting.Add(1)
	select {
	case <-s.pass:
	case <-s.ended:
	}
}

func (s *slowDisk) Open(name string) (vfs.File, error) { return s.file(s.FS.Open(name)) }

func (s *slowDisk) Create(name string) (vfs.File, error) { return s.file(s.FS.Create(name)) }

func (s *slowDisk) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &slowFile{f, s}, nil
}

type slowFile struct {
	vfs.File
	disk *slowDisk
}

func (f *slowFile) WriteAt(p []byte, off int64) (int, error) {
	f.disk.wait(vfs.OpWrite)
	return f.File.WriteAt(p, off)
}

func (f *slowFile) Sync() error {
	f.disk.wait(vfs.OpSync)
	return f.File.Sync()
}

// journal 31: nothing is committed before it is time or asked for; then it is at once,
// and announced. journal 30: what is committed is the contiguous prefix that is applied.
func TestCommit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	disk := slow(r, vfs.OpSync)
	var announced atomic.Uint64
	r.open(func(cfg *Config) {
		cfg.OnCommit = func(_ context.Context, mark events.Mark) error {
			if events.Position(announced.Swap(uint64(mark.Position))) == mark.Position {
				t.Errorf("%v is announced twice", mark.Position)
			}
			return nil
		}
	})
	stop := r.run()
	if mark, err := r.tail.Commit(r.ctx()); err != nil || mark != (events.Mark{}) {
		t.Errorf("with nothing to commit: %v, %v", mark, err)
	}
	r.begin()
	r.put(r.batch(0, written(1, 10)))
	r.drain()
	first := r.mark
	results := make(chan events.Mark, 3)
	commit := func() {
		mark, err := r.tail.Commit(r.ctx())
		if err != nil {
			t.Error(err)
		}
		results <- mark
	}
	go commit()
	sitetest.Eventually(t, "a checkpoint", func() bool { return disk.waiting.Load() == 1 })
	go commit() // joins the one under way
	r.put(r.batch(0, written(2, 10)))
	r.drain()
	if got := r.tail.Marks(); got.Committed != (events.Mark{}) || announced.Load() != 0 {
		t.Errorf("committed %v before the checkpoint", got.Committed.Position)
	}
	go commit() // needs another
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.tail.Commit(impatient); !errors.Is(err, context.Canceled) {
		t.Errorf("of a caller that is gone: %v", err)
	}
	close(disk.pass)
	for range 3 {
		if mark := <-results; mark.Position < first.Position {
			t.Errorf("committed %v of %v", mark.Position, first.Position)
		}
	}
	if got := r.tail.Marks().Committed; got != r.mark {
		t.Errorf("committed %v of %v", got.Position, r.mark.Position)
	}
	sitetest.Eventually(t, "announced", func() bool { return events.Position(announced.Load()) == r.mark.Position })
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	r.tail.marks.Applied.Position++
	if _, err := r.tail.Commit(r.ctx()); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

// TestAwaitApplied: who waits for a position does not wait for the sync's own time.
func TestAwaitApplied(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.open(owner)
	stop := r.run()
	r.begin()
	later := r.mark.Position + 2
	done := make(chan error, 1)
	go func() { done <- r.tail.AwaitApplied(r.ctx(), later) }()
	for i := range uint64(2) {
		if err := r.tail.AwaitApplied(r.ctx(), r.mark.Position); err != nil {
			t.Fatal(err)
		}
		if got := r.tail.Marks().Applied; got.Position < r.mark.Position {
			t.Errorf("applied %v of %v", got.Position, r.mark.Position)
		}
		select {
		case err := <-done:
			t.Fatalf("%v is taken for applied at %v: %v", later, r.mark.Position, err)
		default:
		}
		r.put(r.batch(0, written(i, 10)))
	}
	if err := <-done; err != nil || r.tail.Marks().Applied.Position < later {
		t.Errorf("applied %v of %v: %v", r.tail.Marks().Applied.Position, later, err)
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := r.tail.AwaitApplied(r.ctx(), later+1); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

// TestMemoryIsBounded: a writer that is faster than the disk waits; at no moment is more
// unapplied than the bound. What is staged is the same memory, and none of it stays.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	disk := slow(r, vfs.OpWrite)
	r.open(func(cfg *Config) { cfg.Stage = true })
	r.run()
	r.begin()
	r.drain()
	const total = 2 * UnappliedBytesMax
	var most, sent atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := uint64(0); sent.Load() < total; i++ {
			// What is being written to an object holds up readers of its stripe, and
			// staging: only the first is of that one.
			object := min(i, 1+i%63)
			msg := r.batch(0, written(object, events.PayloadMax), written(object, events.PayloadMax))
			r.put(msg)
			sent.Add(int64(len(msg)))
			used, _ := r.used()
			most.Store(max(most.Load(), int64(used)))
		}
	}()
	// The disk stands still: the writer stops by itself, just below the bound.
	sitetest.Eventually(t, "the writer waits", func() bool { _, waiting := r.used(); return waiting == 1 })
	if got := sent.Load(); got > UnappliedBytesMax || got < UnappliedBytesMax-2<<20 {
		t.Errorf("%d bytes were taken while nothing could be applied", got)
	}
	for moved := true; moved; {
		select {
		case disk.pass <- struct{}{}:
		case <-ended:
			moved = false
		}
	}
	close(disk.pass)
	r.drain()
	if got := most.Load(); got > UnappliedBytesMax {
		t.Errorf("%d bytes were unapplied at once", got)
	}
	if used, _ := r.used(); used != 0 {
		t.Errorf("%d bytes are unapplied at the end", used)
	}
}

// used returns what is unapplied or promised, in bytes, and how many wait for room.
func (r *rig) used() (bytes, waiting int) {
	r.tail.mu.Lock()
	defer r.tail.mu.Unlock()
	return r.tail.unapplied + r.tail.reserved, len(r.tail.line)
}

// A commit position that could not be published is published later, though nothing is written
// meanwhile; one whose publishing the end of the tail interrupts, before the tail has ended.
func TestCommitIsToldAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var tries, announced atomic.Uint64
	var interrupted atomic.Bool
	held := make(chan struct{})
	r.open(func(cfg *Config) {
		cfg.CheckpointAge = 10 * time.Millisecond
		cfg.OnCommit = func(ctx context.Context, mark events.Mark) error {
			if tries.Add(1) <= 2 {
				return errors.New("no server")
			}
			if interrupted.CompareAndSwap(true, false) {
				close(held)
				<-ctx.Done()
				return ctx.Err()
			}
			announced.Store(uint64(mark.Position))
			return nil
		}
	})
	stop := r.run()
	r.begin()
	r.put(r.batch(0, written(1, 10)))
	r.drain()
	sitetest.Eventually(t, "it is told", func() bool { return announced.Load() == uint64(r.mark.Position) })
	interrupted.Store(true)
	r.put(r.batch(0, written(2, 10)))
	r.drain()
	<-held
	stop()
	if got := announced.Load(); got != uint64(r.mark.Position) {
		t.Errorf("at the end %d is told of %d", got, r.mark.Position)
	}
}
