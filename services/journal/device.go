package journal

import (
	"context"
	"errors"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/nbd"
	"tidemark/internal/replica"
)

// session is one NBD client's handle on an image that this node owns.
type session struct {
	holder.View
	image *replica.Image
	life  *life
	close func()
}

// Write implements [nbd.Device]. Data longer than an entry takes becomes a run of
// entries, which come to be together.
func (s *session) Write(ctx context.Context, p []byte, off uint64, fua bool, done func(error)) {
	done = s.toClient(done)
	if len(p) == 0 {
		done(nil)
		return
	}
	w := s.life.writer
	most := w.settings.PayloadBytes
	if len(p) <= most {
		w.submit(ctx, s.writing(p, off, fua), done)
		return
	}
	parts := make([]change, 0, (len(p)+most-1)/most)
	for len(p) > 0 {
		n := min(len(p), most)
		parts = append(parts, s.writing(p[:n], off, fua))
		p, off = p[n:], off+uint64(n)
	}
	w.submitRun(ctx, parts, done)
}

func (s *session) writing(p []byte, off uint64, fua bool) change {
	return change{
		image:  s.image,
		event:  events.Written{Image: s.image.ID(), Offset: off, Data: p},
		offset: off, length: uint64(len(p)), bytes: len(p), safe: fua,
	}
}

// Zero implements [nbd.Device]. A range of more objects than an entry names becomes a
// run of entries, which come to be together.
func (s *session) Zero(ctx context.Context, z nbd.ZeroRequest, done func(error)) {
	step := events.ObjectsPerEntryMax * s.image.ObjectSize()
	var parts []change
	for off, left := z.Offset, z.Length; left > 0; {
		n := min(left, step-off%step)
		parts = append(parts, change{
			image: s.image, event: s.zeroing(z, off, n),
			offset: off, length: n, safe: z.FUA,
		})
		off, left = off+n, left-n
	}
	s.life.writer.submitRun(ctx, parts, s.toClient(done))
}

func (s *session) zeroing(z nbd.ZeroRequest, off, n uint64) events.Event {
	if z.NoHole {
		return events.Zeroed{Image: s.image.ID(), Offset: off, Length: n}
	}
	return events.Discarded{Image: s.image.ID(), Offset: off, Length: n}
}

// Flush implements [nbd.Device]: everything acknowledged before, on any session of the
// directory, is safe when it is done.
func (s *session) Flush(_ context.Context, done func(error)) {
	s.life.writer.flushed()
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
