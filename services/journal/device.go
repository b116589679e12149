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
	if len(p) <= w.settings.PayloadBytes {
		w.submit(ctx, writeOf(s.image, off, p, fua), done)
		return
	}
	w.submitRun(ctx, w.writing(s.image, off, p, fua), done)
}

// Zero implements [nbd.Device]. A range of more objects than an entry names becomes a
// run of entries, which come to be together.
func (s *session) Zero(ctx context.Context, z nbd.ZeroRequest, done func(error)) {
	parts := zeroing(s.image, z.Offset, z.Length, z.FUA, func(offset, length uint64) events.Event {
		if z.NoHole {
			return events.Zeroed{Image: s.image.ID(), Offset: offset, Length: length}
		}
		return events.Discarded{Image: s.image.ID(), Offset: offset, Length: length}
	})
	s.life.writer.submitRun(ctx, parts, s.toClient(done))
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
