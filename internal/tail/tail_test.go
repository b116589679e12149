package tail

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/events"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// TestStations carries many messages through and looks on at each step: applied only
// what is safe here, in order, each once; committed only what is applied; announced only
// what is committed.
func TestStations(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var next uint64 // sequence of the next message to be applied
	var announced atomic.Uint64
	r.open(func(cfg *Config) {
		cfg.Stage = true
		cfg.OnApplied = func(m events.JournalMessage) {
			next++
			if safe := r.syncer.safe.Load(); next > safe {
				t.Errorf("message %d is applied while the log is safe up to %d", next, safe)
			}
			if got := r.replica.Applied(); got.Position < m.Ends().Position {
				t.Errorf("message %d ends at %v, the replica at %v", next, m.Ends().Position, got.Position)
			}
		}
		cfg.OnCommit = func(_ context.Context, mark events.Mark) error {
			if got, _ := r.replica.Committed(); got != mark {
				t.Errorf("%v is announced, %v is committed", mark.Position, got.Position)
			}
			announced.Store(uint64(mark.Position))
			return nil
		}
	})
	stop := r.run()
	r.begin()
	for i := range uint64(300) {
		r.put(r.batch(0, written(i, 1000)))
		if i%50 == 0 {
			r.put(r.claim(1))
			if err := r.tail.Sync(r.ctx()); err != nil {
				t.Fatal(err)
			}
		}
		if m := r.tail.Marks(); m.Logged.Position < m.Safe.Position || m.Safe.Position < m.Applied.Position || m.Applied.Position < m.Committed.Position {
			t.Fatalf("the stations are out of order: %+v", m)
		}
	}
	if err := r.tail.Drain(r.ctx()); err != nil {
		t.Fatal(err)
	}
	if got := r.tail.Marks().Applied; got != r.mark {
		t.Errorf("drained to %v of %v", got, r.mark)
	}
	r.level("committed", committed)
	sitetest.Eventually(t, "announced", func() bool { return events.Position(announced.Load()) == r.mark.Position })
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if next != r.tail.LastSequence() {
		t.Errorf("%d of %d messages were applied", next, r.tail.LastSequence())
	}
}

// TestHeldSync: while the log cannot be synced, writes are logged and readable and
// nothing more; then everything moves on.
func TestHeldSync(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.open(func(cfg *Config) { cfg.Stage = true })
	r.run()
	r.begin()
	if err := r.tail.Drain(r.ctx()); err != nil {
		t.Fatal(err)
	}
	r.syncer.gate.Lock()
	before := r.tail.Marks()
	r.put(r.batch(0, written(3, 100)))
	calls := r.syncer.calls.Load()
	done := make(chan error, 1)
	r.tail.WhenSafe(func(err error) { done <- err })
	sitetest.Eventually(t, "a sync", func() bool { return r.syncer.calls.Load() > calls })
	got := r.tail.Marks()
	if got.Logged != r.mark || got.Safe != before.Safe || got.Applied != before.Applied || r.replica.Applied() != before.Applied {
		t.Errorf("moved without a sync: %+v", got)
	}
	buf := make([]byte, 1)
	img, _ := r.replica.Image(1)
	if _, err := img.ReadAt(buf, 3*objectSize); err != nil || buf[0] != 3 {
		t.Errorf("the logged write reads as %d, %v", buf[0], err)
	}
	select {
	case err := <-done:
		t.Errorf("told to be safe: %v", err)
	default:
	}
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.tail.Sync(impatient); !errors.Is(err, context.Canceled) {
		t.Errorf("sync: %v", err)
	}
	r.syncer.gate.Unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
	r.level("applied", applied)
}

// TestUnflushed: what nobody flushes becomes safe soon all the same.
func TestUnflushed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.open(owner)
	r.run()
	r.begin()
	r.level("safe", safe)
	r.level("applied", applied)
	r.level("committed", committed)
}

// TestFailures: a step that fails ends the tail with its error, and everybody who waits
// or comes later gets it.
func TestFailures(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken disk")
	cases := []struct {
		name string
		wrap func(*rig)
		hurt func(*rig)
	}{
		{"sync", func(*rig) {}, func(r *rig) { r.syncer.fail(broken) }},
		{"apply", failing(vfs.OpWrite, broken), func(*rig) {}},
		{"checkpoint", failing(vfs.OpSync, broken), func(*rig) {}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			c.wrap(r)
			r.open(owner)
			ended := make(chan error, 1)
			go func() { ended <- r.tail.Run(t.Context()) }()
			r.begin()
			if err := r.tail.Drain(r.ctx()); err != nil {
				t.Fatal(err)
			}
			if err := r.tail.Room(r.ctx(), UnappliedBytesMax-1); err != nil {
				t.Fatal(err)
			}
			waiting := make(chan error, 1)
			go func() { waiting <- r.tail.Room(r.ctx(), UnappliedBytesMax) }()
			c.hurt(r)
			msg := r.batch(0, written(1, 10))
			seq := r.append(msg, r.tail.LastSequence())
			m, err := events.DecodeJournal(msg)
			if err != nil {
				t.Fatal(err)
			}
			r.tail.Logged(m, seq, len(msg))
			if err := <-ended; !errors.Is(err, broken) {
				t.Errorf("ended with %v", err)
			}
			if err := <-waiting; !errors.Is(err, broken) {
				t.Errorf("room: %v", err)
			}
			for what, call := range map[string]func(context.Context) error{
				"room":  func(ctx context.Context) error { return r.tail.Room(ctx, 1) },
				"drain": r.tail.Drain,
			} {
				if err := call(r.ctx()); !errors.Is(err, broken) {
					t.Errorf("%s afterwards: %v", what, err)
				}
			}
			// What was made safe before stays safe.
			if err := r.tail.Sync(r.ctx()); errors.Is(err, broken) != (c.name == "sync") {
				t.Errorf("sync afterwards: %v", err)
			}
		})
	}
}

// failing lets the first operation of a kind on a layer's file fail, and all after it.
func failing(kind vfs.OpKind, err error) func(*rig) {
	return func(r *rig) {
		r.fs = vfs.NewFaulty(r.fs, func(op vfs.Op) error {
			if op.Kind == kind {
				return err
			}
			return nil
		})
	}
}

// TestWaitersAreNotForgotten: those who wait for a sync when the tail ends are told.
func TestWaitersAreNotForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.open(owner)
	stop := r.run()
	r.syncer.gate.Lock()
	calls := r.syncer.calls.Load()
	r.begin()
	told := make(chan error, 3)
	for range 3 {
		r.tail.WhenSafe(func(err error) { told <- err })
	}
	sitetest.Eventually(t, "a sync", func() bool { return r.syncer.calls.Load() > calls })
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	r.syncer.gate.Unlock()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	for range 3 {
		<-told // safe, or canceled: either is true here
	}
	r.tail.WhenSafe(func(err error) { told <- err })
	<-told
	select {
	case <-r.tail.Changed():
		t.Error("changed after the end")
	default:
	}
}

// TestFailureAtTheEnd: a message that the replica refuses is reported also when the
// tail is told to end at the same time.
func TestFailureAtTheEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.open(owner)
	for _, msg := range [][]byte{r.claim(1), r.claim(1)} {
		r.append(msg, r.tail.LastSequence())
		m, err := events.DecodeJournal(msg)
		if err != nil {
			t.Fatal(err)
		}
		r.tail.Logged(m, r.tail.LastSequence()+1, len(msg))
	}
	r.tail.queue[0].message = r.tail.queue[1].message // the first one is missing
	r.tail.becameSafe(r.mark, 2)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.tail.Run(ended); !errors.Is(err, replica.ErrGap) {
		t.Errorf("ended with %v", err)
	}
}

// TestCheckpointAtTheEnd: what is applied when the tail is told to end is committed.
func TestCheckpointAtTheEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.open(owner)
	stop := r.run()
	r.begin()
	if err := r.tail.Drain(r.ctx()); err != nil {
		t.Fatal(err)
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if got, seq := r.replica.Committed(); got != r.mark || seq != 2 {
		t.Errorf("committed %v at the end, applied %v", got, r.mark)
	}
}

// TestRebase: a tail that begins anew asks for no sync of what it does not have.
func TestRebase(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.open(owner)
	stop := r.run()
	r.begin()
	if err := r.tail.Drain(r.ctx()); err != nil {
		t.Fatal(err)
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r.tail.lastSeq, r.tail.safeSeq, r.tail.wanted = 90, 90, 90 // of another journal
	r.tail.Rebase()
	if t2 := r.tail; t2.wanted > t2.safeSeq || t2.LastSequence() != 2 || t2.Marks().Safe != r.mark {
		t.Errorf("wanted %d, safe %d, %+v", t2.wanted, t2.safeSeq, t2.Marks())
	}
}

// TestRoomReturned: room that is given back wakes who waits for it, however much it is.
func TestRoomReturned(t *testing.T) {
	tail := &Tail{syncWanted: make(chan struct{}, 1)}
	const part = UnappliedBytesMax * 5 / 8
	if err := tail.Room(t.Context(), part); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	waits := tail.Changed()
	go func() { got <- tail.Room(t.Context(), part) }()
	<-tail.syncWanted // it waits
	tail.Return(part)
	<-waits
	select {
	case err := <-got:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(sitetest.Patience):
		t.Fatal("nobody was woken")
	}
}

// TestRoom: many writers, one applier; the bound holds at every moment, all get through.
func TestRoom(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tail := &Tail{syncWanted: make(chan struct{}, 1), applyReady: make(chan struct{}, 1), checkpointDue: make(chan struct{}, 1), hurry: make(chan struct{}, 1)}
		writers, each := rapid.IntRange(1, 8).Draw(rt, "writers"), rapid.IntRange(1, 20).Draw(rt, "each")
		crowd := &crowd{
			tail: tail, each: each, seed: rapid.Uint64().Draw(rt, "seed"),
			largest: rapid.SampledFrom([]int{1 << 20, 30 << 20, UnappliedBytesMax, 2 * UnappliedBytesMax}).Draw(rt, "largest"),
		}
		ctx, cancel := context.WithTimeout(context.Background(), sitetest.Patience)
		defer cancel()
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() { crowd.write(ctx, rt, uint64(w)) })
		}
		ended := make(chan struct{})
		go func() { all.Wait(); close(ended) }()
		crowd.apply(ended)
		if tail.unapplied != 0 || tail.reserved != 0 || crowd.outstanding.Load() != 0 {
			rt.Fatalf("%d bytes unapplied, %d promised at the end", tail.unapplied, tail.reserved)
		}
	})
}

// crowd is writers that want room.
type crowd struct {
	tail          *Tail
	each, largest int
	seed          uint64
	logging       sync.Mutex
	outstanding   atomic.Int64 // bytes promised, and neither applied nor given up
}

func (c *crowd) write(ctx context.Context, t *rapid.T, w uint64) {
	rng := rand.New(rand.NewPCG(c.seed, w))
	for range c.each {
		n := 1 + rng.IntN(c.largest)
		if err := c.tail.Room(ctx, n); err != nil {
			t.Errorf("room for %d: %v", n, err)
			return
		}
		if used := c.outstanding.Add(int64(n)); used > max(UnappliedBytesMax, int64(n)) && c.largest <= UnappliedBytesMax {
			t.Errorf("%d bytes are under way", used)
		}
		if rng.IntN(4) == 0 { // it is given up
			c.outstanding.Add(-int64(n))
		} else {
			c.logging.Lock()
			c.tail.Logged(&events.TagClaimed{}, c.tail.LastSequence()+1, n)
			c.logging.Unlock()
		}
		c.tail.Return(n)
	}
}

// apply syncs and applies like the loops do, until ended.
func (c *crowd) apply(ended <-chan struct{}) {
	t := c.tail
	for last := false; ; {
		t.mu.Lock()
		logged, seq := t.marks.Logged, t.lastSeq
		t.mu.Unlock()
		t.becameSafe(logged, seq)
		for next, _ := t.applicable(); len(next) > 0; next, _ = t.applicable() {
			for _, it := range next {
				c.outstanding.Add(-int64(it.bytes))
			}
			t.applied(next)
		}
		if last {
			return
		}
		select {
		case <-ended:
			last = true
		case <-t.syncWanted:
		}
	}
}
