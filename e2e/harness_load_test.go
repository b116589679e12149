package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/internal/nbdclient"
	"tidemark/internal/workload"
)

const (
	loadBlocksMax   = 16 // of a write: one entry of the journal
	writersPerImage = 4
	flushOneIn      = 32 // writes of one writer
	fuaOneIn        = 16
)

// load writes recognisable data to several images and judges what is left of it.
type load struct {
	t      testing.TB
	images []string
	work   *workload.Workload
	began  time.Time
	// largest is the length of the largest write, in bytes.
	largest int
	// pace is how long each writer waits between two writes; zero: not at all.
	pace time.Duration
}

// newLoad makes a load for images that are empty and of one size. It logs its seed.
func newLoad(t testing.TB, bytes uint64, images ...string) *load {
	return newLoadOf(t, workload.Config{ImageBytes: bytes, BlocksMax: loadBlocksMax, BlockBytes: workload.BlockSize}, images...)
}

// newLoadOf is newLoad for writes of another kind. A seed of zero is chosen here.
func newLoadOf(t testing.TB, cfg workload.Config, images ...string) *load {
	cfg.Images = len(images)
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64()
	}
	t.Logf("load on %v: seed %d", images, cfg.Seed)
	return &load{
		t: t, images: images, began: time.Now(), work: workload.New(cfg),
		largest: max(cfg.BlocksMax, cfg.LargeMax) * cfg.BlockBytes,
	}
}

// writing is a load at work.
type writing struct {
	load    *load
	site    *site
	stop    atomic.Bool
	acked   atomic.Int64
	working sync.WaitGroup
	mu      sync.Mutex
	err     error // of the first writer that failed
}

// start sets writers to work, one connection for each image and writer.
func (l *load) start(s *site) *writing {
	l.t.Helper()
	w := &writing{load: l, site: s}
	for i, image := range l.images {
		for n := range writersPerImage {
			conn := s.dial(image)
			w.working.Go(func() {
				defer hangUp(conn)
				if err := w.write(conn, i, uint64(n)); err != nil {
					w.note(fmt.Errorf("write to %s at %s: %w", image, s.name, err))
				}
			})
		}
	}
	return w
}

func (w *writing) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

func (w *writing) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// write is one writer. It ends when it is told to, or with its first error.
func (w *writing) write(conn *nbdclient.Conn, image int, number uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	random := rand.New(rand.NewPCG(uint64(image), number))
	buffer := make([]byte, w.load.largest)
	for !w.stop.Load() {
		if w.load.pace > 0 {
			<-time.After(w.load.pace)
		}
		next, ok := w.load.work.Begin(image)
		if !ok {
			return fmt.Errorf("no free place: too many writes are unanswered")
		}
		fua := random.IntN(fuaOneIn) == 0
		if err := w.load.perform(ctx, conn, next, buffer[:next.Bytes()], fua); err != nil {
			return err
		}
		w.acked.Add(1)
		if random.IntN(flushOneIn) == 0 {
			if err := w.load.flush(ctx, conn); err != nil {
				return err
			}
		}
	}
	return nil
}

// perform carries one write out.
func (l *load) perform(ctx context.Context, conn *nbdclient.Conn, next workload.Write, data []byte, fua bool) error {
	var err error
	switch {
	case next.Zeroes && next.Number%2 == 0:
		err = conn.Trim(ctx, next.Offset(), uint64(next.Bytes()), fua)
	case next.Zeroes:
		err = conn.Zero(ctx, next.Offset(), uint64(next.Bytes()), fua)
	default:
		l.work.Data(next, data)
		err = conn.WriteAt(ctx, data, next.Offset(), fua)
	}
	if err != nil {
		return err
	}
	if fua {
		l.work.AcknowledgeSafe(next, time.Since(l.began))
	} else {
		l.work.Acknowledge(next, time.Since(l.began))
	}
	return nil
}

func (l *load) flush(ctx context.Context, conn *nbdclient.Conn) error {
	begun := l.work.BeginFlush()
	if err := conn.Flush(ctx); err != nil {
		return err
	}
	l.work.EndFlush(begun)
	return nil
}

// awaitWrites waits until n more writes were acknowledged.
func (w *writing) awaitWrites(n int64) {
	w.load.t.Helper()
	target := w.acked.Load() + n
	awaitEvery(w.load.t, time.Millisecond, patience, fmt.Sprintf("%d more writes at %s", n, w.site.name), func() error {
		if err := w.failure(); err != nil {
			w.load.t.Fatal(err)
		}
		return unless(w.acked.Load() >= target, "%d to go", target-w.acked.Load())
	})
}

// end stops the writers, none of which may have failed.
func (w *writing) end() {
	w.load.t.Helper()
	w.stop.Store(true)
	w.working.Wait()
	if err := w.failure(); err != nil {
		w.load.t.Fatal(err)
	}
}

// abandon waits for writers whose server is gone; their errors are expected.
func (w *writing) abandon() {
	w.stop.Store(true)
	w.working.Wait()
}

// look reads all images at a site.
func (l *load) look(s *site) *workload.Verifier {
	l.t.Helper()
	v := l.work.Verify()
	l.show(s, v)
	return v
}

// show shows a verifier all images at a site.
func (l *load) show(s *site, v *workload.Verifier) {
	l.t.Helper()
	for i, image := range l.images {
		s.contents(image, func(offset uint64, p []byte) { v.Observe(i, offset, p) })
	}
}

// judge reads all images at a site and says what they amount to.
func (l *load) judge(s *site) workload.Verdict {
	l.t.Helper()
	return l.look(s).Verdict()
}

// demandComplete fails the test unless a site holds everything that was acknowledged.
func (l *load) demandComplete(s *site) {
	l.t.Helper()
	if err := l.judge(s).Complete(); err != nil {
		l.t.Fatalf("%s: %v", s.name, err)
	}
}

// goOn is demandComplete after a crash: what is there of the writes that nobody
// answered is there from now on, and the rest never will be.
func (l *load) goOn(s *site) {
	l.t.Helper()
	v := l.look(s)
	if err := v.Verdict().Complete(); err != nil {
		l.t.Fatalf("%s: %v", s.name, err)
	}
	l.work.Continue(v)
}
