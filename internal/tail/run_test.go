package tail

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/events"
)

// parts returns the messages of a run: one part each, a write of n bytes to object i.
// Nothing of it counts until the last is logged: versions are those of before.
func (r *rig) parts(count uint32, n int) [][]byte {
	var messages [][]byte
	for i := range count {
		b := events.NewBatchBuilder(nil)
		b.Append(events.Entry{
			Before: []events.Position{r.versions[uint64(i)]}, Part: events.Part{Index: i, Count: count},
			Event: written(uint64(i), n),
		})
		var msg []byte
		msg, r.mark = b.Seal(r.mark.Position.Tag(), r.mark, 0, events.InstantOf(time.Now()))
		messages = append(messages, msg)
	}
	return messages
}

// reads returns the first byte of an object.
func (r *rig) reads(object uint64) byte {
	r.t.Helper()
	img, ok := r.replica.Image(1)
	if !ok {
		r.t.Fatal("no image")
	}
	buf := make([]byte, 1)
	if _, err := img.ReadAt(buf, int64(object*objectSize)); err != nil {
		r.t.Fatal(err)
	}
	return buf[0]
}

func (r *rig) drain() {
	r.t.Helper()
	if err := r.tail.Drain(r.ctx()); err != nil {
		r.t.Fatal(err)
	}
}

// TestRunIsOneStep: the messages of a run wait for its last one, in everything but the
// log: readers, the copy and checkpoints see all of it or none.
func TestRunIsOneStep(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var inside atomic.Pointer[events.Mark]
	r.open(func(cfg *Config) {
		cfg.Stage = true
		cfg.OnCommit = func(_ context.Context, mark events.Mark) error {
			inside.Store(&mark)
			return nil
		}
	})
	stop := r.run()
	r.begin()
	r.drain()
	before := r.mark
	run := r.parts(4, 100)
	for i, msg := range run[:3] {
		r.put(msg)
		r.drain() // tolerates a log that ends in a run
		r.tail.Hurry()
		mark, err := r.tail.Commit(r.ctx())
		if err != nil || mark != before || r.tail.Marks().Applied != before {
			t.Fatalf("part %d: committed %v, applied %v, %v", i, mark.Position, r.tail.Marks().Applied.Position, err)
		}
		if got := r.reads(uint64(1)); got != 0 {
			t.Fatalf("part %d: a reader sees %d", i, got)
		}
	}
	r.put(run[3])
	if got := r.reads(3); got != 3 {
		t.Errorf("a change that is logged reads as %d", got)
	}
	r.drain()
	mark, err := r.tail.Commit(r.ctx())
	if err != nil || mark != r.mark {
		t.Errorf("committed %v of %v, %v", mark.Position, r.mark.Position, err)
	}
	for i := range uint64(4) {
		if got := r.reads(i); got != byte(i) {
			t.Errorf("object %d reads as %d", i, got)
		}
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := inside.Load(); got == nil || *got != r.mark {
		t.Errorf("announced %v", got)
	}
}

// TestBrokenRun: a run that the next message breaks off is passed with it, and readers
// never see it.
func TestBrokenRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		next func(r *rig) []byte
	}{
		{"by a tag", func(r *rig) []byte { return r.claim(1) }},
		{"by a change", func(r *rig) []byte { return r.batch(0, written(9, 10)) }},
		{"by another run", func(r *rig) []byte { return r.parts(2, 10)[0] }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.open(func(cfg *Config) { cfg.Stage = true })
			r.run()
			r.begin()
			run := r.parts(3, 100)
			// The last part is never logged.
			r.mark = marksOf(t, run[1])
			r.put(run[0])
			r.put(run[1])
			broken := r.mark
			r.put(c.next(r))
			r.drain()
			if got := r.tail.Marks().Applied.Position; got < broken.Position {
				t.Errorf("applied up to %v of %v", got, broken.Position)
			}
			if got := r.reads(1); got != 0 {
				t.Errorf("a void change reads as %d", got)
			}
		})
	}
}

func marksOf(t *testing.T, msg []byte) events.Mark {
	t.Helper()
	m, err := events.DecodeJournal(msg)
	if err != nil {
		t.Fatal(err)
	}
	return m.Ends()
}

// TestReplayOfABrokenRun: a log may end inside a run, however often it is replayed; the
// claim that follows voids it.
func TestReplayOfABrokenRun(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.history(3)
	last, good := uint64(5), r.mark
	run := r.parts(3, 100)
	r.mark = marksOf(t, run[1])
	for _, msg := range run[:2] {
		last = r.append(msg, last)
	}
	for range 2 {
		if err := r.replayed(); err != nil {
			t.Fatal(err)
		}
		if got, seq := r.replica.Committed(); got != good || seq != 5 {
			t.Errorf("committed %v at message %d", got.Position, seq)
		}
	}
	last = r.append(r.claim(1), last)
	last = r.append(r.batch(0, written(7, 10)), last)
	if err := r.replayed(); err != nil {
		t.Fatal(err)
	}
	if got, seq := r.replica.Committed(); got != r.mark || seq != last {
		t.Errorf("committed %v at message %d", got.Position, seq)
	}
}

// TestLargestRun: a run as large as any goes through a tail together with others, and
// one by its side does not starve it.
func TestLargestRun(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.open(owner)
	r.run()
	r.begin()
	for range 3 {
		run := r.parts(130, events.PayloadMax)
		size := 0
		for _, msg := range run {
			size += len(msg)
		}
		if size < 32<<20 || size > RunBytesMax {
			t.Fatalf("the run takes %d bytes", size)
		}
		if err := r.tail.Room(r.ctx(), size); err != nil {
			t.Fatal(err)
		}
		for _, msg := range run {
			seq := r.append(msg, r.tail.LastSequence())
			m, err := events.DecodeJournal(msg)
			if err != nil {
				t.Fatal(err)
			}
			r.tail.Logged(m, seq, len(msg))
			r.tail.Return(len(msg))
		}
		first := r.mark.Position - 129
		for i := range uint64(130) {
			r.versions[i] = first + events.Position(i)
		}
	}
	r.drain()
	if got := r.tail.Marks().Applied; got != r.mark {
		t.Errorf("applied %v of %v", got.Position, r.mark.Position)
	}
}

// TestLargeRequestIsNotStarved: who asks for much room gets it in turn, though small
// requests would always find some.
func TestLargeRequestIsNotStarved(t *testing.T) {
	tail := &Tail{syncWanted: make(chan struct{}, 1)}
	if err := tail.Room(t.Context(), UnappliedBytesMax/2+1); err != nil {
		t.Fatal(err)
	}
	large, small := make(chan error, 1), make(chan error, 1)
	go func() { large <- tail.Room(t.Context(), UnappliedBytesMax/2) }()
	<-tail.syncWanted
	impatient, cancel := context.WithCancel(t.Context())
	go func() { small <- tail.Room(impatient, 1) }()
	cancel()
	if err := <-small; !errors.Is(err, context.Canceled) {
		t.Errorf("a small request went ahead: %v", err)
	}
	tail.Return(1)
	if err := <-large; err != nil {
		t.Error(err)
	}
	if err := tail.Room(impatient, 1); !errors.Is(err, context.Canceled) || len(tail.line) != 0 {
		t.Errorf("no room is left, %d wait: %v", len(tail.line), err)
	}
}

// TestRoomAhead: it neither waits for promises nor for those who stand in line, but for
// what is not applied yet.
func TestRoomAhead(t *testing.T) {
	tail := &Tail{syncWanted: make(chan struct{}, 1)}
	if err := tail.Room(t.Context(), UnappliedBytesMax); err != nil {
		t.Fatal(err)
	}
	impatient, cancel := context.WithCancel(t.Context())
	inLine := make(chan error, 1)
	go func() { inLine <- tail.Room(impatient, 1) }()
	<-tail.syncWanted
	if err := tail.RoomAhead(t.Context(), UnappliedBytesMax); err != nil {
		t.Error(err)
	}
	cancel()
	<-inLine
	tail.unapplied = 2
	if err := tail.RoomAhead(impatient, UnappliedBytesMax-1); !errors.Is(err, context.Canceled) {
		t.Errorf("more than may be unapplied: %v", err)
	}
}
