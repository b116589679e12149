package journal

import (
	"context"
	"errors"
	"sync/atomic"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/nbd"
)

// session is one NBD client's handle on an image that this node owns.
type session struct {
	holder.View
	life  *life
	close func()
}

// Write implements [nbd.Device]. Data longer than an entry takes becomes several
// consecutive entries, acknowledged together.
func (s *session) Write(ctx context.Context, p []byte, off uint64, fua bool, done func(error)) {
	pieces := max(1, (len(p)+events.PayloadMax-1)/events.PayloadMax)
	done = s.toClient(whenAll(pieces, done))
	if len(p) == 0 {
		done(nil)
		return
	}
	for len(p) > 0 {
		n := min(len(p), events.PayloadMax)
		s.life.writer.submit(ctx, change{
			image:  s.Image,
			event:  events.Written{Image: s.Image.ID(), Offset: off, Data: p[:n]},
			offset: off, length: uint64(n), bytes: n, safe: fua,
		}, done)
		p, off = p[n:], off+uint64(n)
	}
}

// Zero implements [nbd.Device]. A range of more objects than an entry names becomes
// several entries.
func (s *session) Zero(ctx context.Context, z nbd.ZeroRequest, done func(error)) {
	step := events.ObjectsPerEntryMax * s.Image.ObjectSize()
	pieces := (z.Offset%step + z.Length + step - 1) / step
	done = s.toClient(whenAll(int(pieces), done))
	for off, left := z.Offset, z.Length; left > 0; {
		n := min(left, step-off%step)
		s.life.writer.submit(ctx, change{
			image: s.Image, event: s.zeroing(z, off, n),
			offset: off, length: n, safe: z.FUA,
		}, done)
		off, left = off+n, left-n
	}
}

func (s *session) zeroing(z nbd.ZeroRequest, off, n uint64) events.Event {
	if z.NoHole {
		return events.Zeroed{Image: s.Image.ID(), Offset: off, Length: n}
	}
	return events.Discarded{Image: s.Image.ID(), Offset: off, Length: n}
}

// Flush implements [nbd.Device]: everything acknowledged before, on any session of the
// directory, is safe when it is done.
func (s *session) Flush(_ context.Context, done func(error)) {
	s.life.tail.WhenSafe(s.toClient(done))
}

// Close implements [nbd.Device]: what the session was acknowledged is safe afterwards.
func (s *session) Close(ctx context.Context) error {
	defer s.close()
	return s.life.tail.Sync(ctx)
}

// toClient turns the errors of a directory that goes down into those that a client
// understands: come back later.
func (s *session) toClient(done func(error)) func(error) {
	return func(err error) {
		if errors.Is(err, context.Canceled) {
			err = errClosed
		}
		if err != nil {
			err = fault.New(fault.CodeOf(err), "image %s: %w", s.Name, err)
		}
		done(err)
	}
}

// whenAll returns a function that calls done at its n-th call, with the first error
// among them.
func whenAll(n int, done func(error)) func(error) {
	if n == 1 {
		return done
	}
	var left atomic.Int64
	var first atomic.Pointer[error]
	left.Store(int64(n))
	return func(err error) {
		if err != nil {
			first.CompareAndSwap(nil, &err)
		}
		if left.Add(-1) > 0 {
			return
		}
		if e := first.Load(); e != nil {
			done(*e)
			return
		}
		done(nil)
	}
}
