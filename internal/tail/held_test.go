package tail

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/sitetest"
)

// setting is a delay that tests change.
type setting struct {
	mu      sync.Mutex
	delay   time.Duration
	changed chan struct{}
}

func delayed(d time.Duration) *setting { return &setting{delay: d, changed: make(chan struct{})} }

func (s *setting) get() (time.Duration, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.delay, s.changed
}

func (s *setting) set(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *setting) configure(cfg *Config) { cfg.Delay = s.get }

// start opens and runs a tail whose replica is up to the log, and that holds back from now on.
func (r *rig) start(s *setting) (stop func() error) {
	r.t.Helper()
	r.open(s.configure)
	stop = r.run()
	r.replayAll()
	return stop
}

func (r *rig) replayAll() {
	r.t.Helper()
	if err := r.tail.Replay(r.ctx()); err != nil {
		r.t.Fatal(err)
	}
	if err := r.tail.AwaitReplayed(r.ctx()); err != nil {
		r.t.Fatal(err)
	}
	if d, _ := r.tail.cfg.Delay(); d > 0 {
		sitetest.Eventually(r.t, "messages are held back", func() bool { return r.tail.held().on })
	}
}

// beginHeld puts a tag and an image, which are due, and waits until they are applied.
func (r *rig) beginHeld() {
	r.t.Helper()
	r.age = 100 * time.Hour
	r.begin()
	r.level("applied", applied)
	r.age = 0
}

// A message is applied when its time has come, and no sooner, however many come; what is held
// back takes no memory. journal 249: nothing earlier than the delay.
func TestHeldBackUntilDue(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := delayed(400 * time.Millisecond)
	r.start(s)
	r.beginHeld()
	for range 3 {
		before := r.tail.Marks().Applied
		r.put(r.batch(0, written(1, 4096)))
		put := time.Now()
		sitetest.Eventually(t, "it is applied", func() bool {
			if r.tail.Marks().Applied == before {
				return false
			}
			if early := 390*time.Millisecond - time.Since(put); early > 0 {
				t.Fatalf("it was applied %s too early", early)
			}
			return true
		})
		if got := r.tail.Marks(); got.Applied.Position != r.mark.Position || got.Logged.Position != r.mark.Position {
			t.Fatalf("%+v", got)
		}
	}
}

func TestHeldBackTakesNoMemory(t *testing.T) {
	r := newRig(t)
	s := delayed(time.Hour)
	r.start(s)
	r.beginHeld()
	began := r.tail.Marks().Applied
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const messages = 3 * UnappliedBytesMax / (480 << 10) // would never be let in
	for i := range uint64(messages) {
		r.put(r.batch(0, written(i%200, 240<<10), written(i%200+1, 240<<10)))
	}
	r.level("safe", safe)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	if got := r.tail.Marks(); got.Applied != began {
		t.Fatalf("applied up to %v, which is not due", got.Applied.Position)
	}
	if n := r.tail.LastSequence(); n != messages+2 {
		t.Errorf("message %d is the last one", n)
	}
	s.set(0) // live
	r.level("applied", applied)
	sitetest.Eventually(t, "nothing is held back any more", func() bool { return !r.tail.held().on })
	if _, noted := r.replica.NotedDue(); noted {
		t.Error("the note is left")
	}
	r.put(r.batch(0, written(7, 4096)))
	r.level("applied", applied)
}

// A delay that is raised and lowered while messages are held back counts for them.
func TestDelayChangesLive(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := delayed(0)
	r.start(s)
	r.begin()
	r.age = time.Minute
	s.set(2 * time.Hour)
	sitetest.Eventually(t, "messages are held back", func() bool { return r.tail.held().on })
	r.put(r.batch(0, written(1, 4096)))
	held := r.mark
	r.age = 0
	r.put(r.batch(0, written(2, 4096)))
	s.set(time.Hour)
	s.set(30 * time.Second)
	sitetest.Eventually(t, "the first is due", func() bool { return r.tail.Marks().Applied.Position == held.Position })
	if err := r.tail.Drain(r.ctx()); err != nil { // as before a promotion
		t.Fatal(err)
	}
	if got := r.tail.Marks().Applied; got.Position != r.mark.Position {
		t.Errorf("drained up to %v of %v", got.Position, r.mark.Position)
	}
	r.put(r.batch(0, written(3, 4096)))
	if !r.tail.held().on {
		t.Error("a drain ended the delay")
	}
}

// journal 250: with a long delay a stop is prompt.
func TestStopWhileHeldBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := delayed(600 * time.Second)
	stop := r.start(s)
	r.beginHeld()
	began := r.mark
	r.put(r.batch(0, written(1, 4096)))
	started := time.Now()
	if err := stop(); err == nil {
		t.Error("it ended by itself")
	}
	sitetest.Prompt(t, "a stop", started, 3*time.Second)
	if got, _ := r.replica.Committed(); got.Position != began.Position {
		t.Errorf("committed %v, applied %v", got.Position, began.Position)
	}
}

// killed makes the rig one whose process was killed: what was applied since the last checkpoint
// is in the files, and not in the metadata.
func (r *rig) killed(stop func() error) {
	r.t.Helper()
	dir := filepath.Join(r.t.TempDir(), "killed")
	copyTree(r.t, dir, r.dir)
	_ = stop()
	if err := r.replica.Close(); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "lock")); err != nil {
		r.t.Fatal(err)
	}
	r.dir = dir
}

// After a kill what had been applied is applied again, due or not, and nothing else is.
func TestKilledWhileHeldBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := delayed(time.Hour)
	stop := r.start(s)
	r.beginHeld()
	if _, err := r.tail.Commit(r.ctx()); err != nil {
		t.Fatal(err)
	}
	r.age = 2 * time.Hour
	r.put(r.batch(0, written(1, 4096)))
	was := r.mark
	r.level("applied", applied)
	r.age = time.Minute
	r.put(r.batch(0, written(2, 4096)))
	r.level("safe", safe)
	r.killed(stop)

	s.set(50 * time.Hour) // by now nothing is due any more
	stop = r.start(s)
	if got := r.tail.Marks(); got.Applied.Position != was.Position || got.Logged.Position != r.mark.Position {
		t.Fatalf("applied %v, it was %v before; logged %v of %v", got.Applied.Position, was.Position, got.Logged.Position, r.mark.Position)
	}
	if err := stop(); err == nil {
		t.Error("it ended by itself")
	}
	if err := r.replica.Close(); err != nil {
		t.Fatal(err)
	}

	// Whoever opens it without a delay, as an owner does, has everything at once.
	r.open(owner)
	stop = r.run()
	if err := r.tail.Replay(r.ctx()); err != nil {
		t.Fatal(err)
	}
	r.drain()
	if got := r.tail.Marks().Applied; got.Position != r.mark.Position {
		t.Errorf("applied %v of %v", got.Position, r.mark.Position)
	}
	if _, noted := r.replica.NotedDue(); noted {
		t.Error("the note is left")
	}
	r.put(r.batch(0, written(3, 4096)))
	r.level("applied", applied)
	r.killed(stop)

	// Nothing was noted of that, so all of it may be in the files.
	r.start(s)
	if got := r.tail.Marks().Applied; got.Position != r.mark.Position {
		t.Errorf("applied %v of %v, all of which may be in the files", got.Position, r.mark.Position)
	}
}

// A run whose parts are due at different times is applied when the last one is.
func TestRunHeldBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := delayed(time.Hour)
	r.start(s)
	r.beginHeld()
	began := r.tail.Marks().Applied
	for _, part := range r.parts(3, 4096) { // written now
		r.put(part)
	}
	r.put(r.batch(0, written(9, 4096)))
	r.level("safe", safe)
	if got := r.tail.Marks().Applied; got != began {
		t.Fatalf("applied %v", got.Position)
	}
	s.set(0)
	r.level("applied", applied)
	for i := range uint64(3) {
		if r.reads(i) != byte(i) {
			t.Errorf("object %d is not written", i)
		}
	}
}

// While a first sync is made up for, nothing is held back: until then the copy is of no use.
func TestCatchingUpIsNotHeldBack(t *testing.T) {
	t.Parallel()
	m := &events.Batch{Tag: 5, First: 7}
	r := newRig(t)
	s := delayed(time.Hour)
	r.start(s)
	h := release{tail: r.tail, delay: time.Hour, reach: events.At(5, 7)}
	m.End.Time = events.InstantOf(time.Now())
	if wait := h.wait(m, 99); wait != 0 {
		t.Errorf("what the copy may hold a part of waits %s", wait)
	}
	m.First = 8
	if wait := h.wait(m, 99); wait < 59*time.Minute {
		t.Errorf("what is behind it waits %s", wait)
	}
}
