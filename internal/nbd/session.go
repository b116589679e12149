package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"tidemark/internal/nbd/wire"
)

// errDisconnect says that the client ended the session properly.
var errDisconnect = errors.New("the client disconnected")

// session is the transmission phase of a connection.
type session struct {
	server     *Server
	conn       net.Conn
	dev        Device
	info       Info
	structured bool // structured replies were agreed
	allocation bool // base:allocation was selected
	payloadMax uint32

	in  *inbox
	out *outbox
	// ending is set when export or server end: new requests are refused.
	ending atomic.Bool

	reads *readQueue // READ and BLOCK_STATUS
}

func newSession(s *Server, g *agreed) *session {
	t := &session{
		server:     s,
		conn:       g.conn,
		dev:        g.dev,
		info:       g.info,
		structured: g.structured,
		allocation: g.allocation,
		payloadMax: g.info.BlockMax,
		in:         newInbox(g.conn, s.limits.StallTime),
	}
	t.out = newOutbox(g.conn, s.limits, s.budget, s.recycle)
	return t
}

// run serves requests until the client leaves, the export ends or ctx does, waits for
// what is in flight and closes the device.
func (t *session) run(ctx context.Context, log *slog.Logger) {
	// What is in flight when ctx ends is finished, not cancelled: the drain's bound is
	// what cancels it.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()

	var helpers sync.WaitGroup
	helpers.Go(t.out.run)
	left := make(chan struct{})
	helpers.Go(func() { t.watch(ctx, left, cancel) })

	t.reads = newReadQueue(t.server.limits.ReadsPerConn, func(r *request) { t.answer(work, r) })
	reason := t.serve(work)
	t.out.uncork()
	close(left)
	t.reads.close()
	drained := t.drain(cancel)
	if drained {
		t.reads.wait()
	}
	t.out.finish()
	// Whoever does not take the last replies does not hold up the device's end.
	cut := time.AfterFunc(t.server.limits.DrainTime, func() { _ = t.conn.Close() })
	helpers.Wait()
	cut.Stop()

	closing, cancelClosing := context.WithTimeout(context.WithoutCancel(ctx), t.server.limits.DrainTime)
	defer cancelClosing()
	if err := t.dev.Close(closing); err != nil {
		log.Error("closing an export failed: its last writes may not be safe", keyError, err)
	}
	switch {
	case !drained:
		log.Error("an export did not answer in time; its session was given up")
	case errors.Is(reason, errDisconnect), errors.Is(reason, io.EOF), t.ending.Load():
		log.Debug("an NBD session ended")
	default:
		log.Info("an NBD session was cut off", keyError, reason)
	}
}

// watch begins the session's end when the export or the server end, until left is
// closed: requests are refused from then on, and when those in flight are answered the
// reader is told to stop.
func (t *session) watch(ctx context.Context, left <-chan struct{}, cancel func()) {
	select {
	case <-left:
		return
	case <-t.dev.Ended():
	case <-ctx.Done():
	}
	t.ending.Store(true)
	t.out.giveUp(wire.ESHUTDOWN)
	t.drain(cancel)
	t.in.interrupt()
}

// drain waits for the requests in flight: DrainTime, then, with the device's calls
// cancelled, as long again. It reports whether all were answered.
func (t *session) drain(cancel func()) bool {
	bound := t.server.limits.DrainTime
	first := time.AfterFunc(bound, cancel)
	defer first.Stop()
	second := time.AfterFunc(2*bound, t.out.abandon)
	defer second.Stop()
	return t.out.drain()
}

// serve reads and dispatches requests until one cannot be read.
func (t *session) serve(ctx context.Context) error {
	corked := false
	t.in.waits = func() {
		if corked {
			corked = false
			t.out.uncork()
		}
	}
	for {
		if !corked && t.in.buffered(2*wire.RequestSize) {
			corked = true
			t.out.cork()
		}
		if err := t.in.await(); err != nil {
			return err
		}
		header, err := t.in.take(wire.RequestSize)
		if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		r := t.server.request(t)
		var ok bool
		if r.Request, ok = wire.ParseRequest(header); !ok {
			return errors.New("a request has the wrong magic")
		}
		if r.Command == wire.CmdDisconnect {
			return errDisconnect
		}
		if err := t.dispatch(ctx, r); err != nil {
			return err
		}
	}
}

// dispatch checks a request, consumes its payload and gives it to whom it concerns. It
// returns an error when the connection is of no use any more.
func (t *session) dispatch(ctx context.Context, r *request) error {
	refused := t.check(r)
	if t.ending.Load() && refused == nil {
		refused = wire.ESHUTDOWN
	}
	r.working = refused == nil && (r.Command == wire.CmdFlush || r.Length > 0 && r.Command != wire.CmdCache)
	if refused == nil && (r.Command == wire.CmdRead || r.Command == wire.CmdWrite) {
		r.weight = int(r.Length)
		r.memory = memoryFor(r.weight)
	}
	if r.Command == wire.CmdWrite && !t.in.buffered(r.weight) {
		r.working = false // until its data is there: the end of a session does not wait for that
	}
	switch err := t.admit(ctx, r); {
	case errors.Is(err, wire.ESHUTDOWN):
		refused = err
	case err != nil:
		return err
	}
	switch {
	case refused != nil:
		if err := t.skip(r); err != nil {
			t.out.forget(r)
			return err
		}
		r.fail(refused)
	case r.Command == wire.CmdFlush:
		t.dev.Flush(ctx, r.done)
	case r.Command == wire.CmdRead && r.Length == 0:
		r.reply = r.dataHeader(r.head[:0])
		t.answered(r, 0)
	case r.Length == 0, r.Command == wire.CmdCache: // CACHE is a hint: there is nothing to do
		r.complete(nil)
	case r.Command == wire.CmdRead, r.Command == wire.CmdBlockStatus:
		t.reads.push(r)
	case r.Command == wire.CmdWrite:
		return t.write(ctx, r)
	default:
		t.dev.Zero(ctx, ZeroRequest{
			Offset: r.Offset,
			Length: uint64(r.Length),
			Trim:   r.Command == wire.CmdTrim,
			NoHole: r.Flags&wire.CmdFlagNoHole != 0,
			FUA:    r.Flags&wire.CmdFlagFUA != 0,
		}, r.done)
	}
	return nil
}

// admit waits until r fits into the limits and counts it. When export or server end
// while it waits for the server's, it counts r as one that is refused and returns
// ESHUTDOWN. With any other error the connection is of no use any more.
func (t *session) admit(ctx context.Context, r *request) error {
	err := t.out.admit(r)
	if !errors.Is(err, errNoBudget) {
		return err
	}
	stop := t.in.guard(func() { t.out.giveUp(io.EOF) })
	err = t.out.await(ctx, r)
	stop()
	if !errors.Is(err, wire.ESHUTDOWN) {
		return err
	}
	r.weight, r.memory, r.working = 0, 0, false
	if err := t.out.admit(r); err != nil {
		return err
	}
	return wire.ESHUTDOWN
}

// check returns why a request is refused, nil if it is not.
func (t *session) check(r *request) error {
	allowed := uint16(wire.CmdFlagFUA) // valid, and without meaning, on what changes nothing
	beyond := wire.EINVAL              // the error of a range outside the export
	changes := true
	switch r.Command {
	case wire.CmdRead:
		changes = false
		if t.structured {
			allowed |= wire.CmdFlagDF
		}
	case wire.CmdWrite:
		beyond = wire.ENOSPC
	case wire.CmdFlush:
		// Offset and length are reserved; clients that fill them in are let be.
		if r.Flags&^allowed != 0 {
			return wire.EINVAL
		}
		return nil
	case wire.CmdTrim:
	case wire.CmdCache:
		changes = false
	case wire.CmdWriteZeroes:
		allowed |= wire.CmdFlagNoHole | wire.CmdFlagFastZero
		beyond = wire.ENOSPC
	case wire.CmdBlockStatus:
		changes = false
		allowed |= wire.CmdFlagReqOne
		if !t.allocation || r.Length == 0 { // an answer cannot be empty
			return wire.EINVAL
		}
	default:
		return wire.EINVAL
	}
	size, length := t.info.Size, uint64(r.Length)
	switch {
	case r.Flags&^allowed != 0:
		return wire.EINVAL
	case changes && t.info.ReadOnly:
		return wire.EPERM
	case r.Offset > size || length > size-r.Offset:
		return beyond
	case (r.Command == wire.CmdRead || r.Command == wire.CmdWrite) && r.Length > t.payloadMax:
		return wire.EINVAL
	}
	return nil
}

// skip consumes the payload of a refused request. Only a WRITE has one, whatever the
// length of another command says. One far beyond the limit is not worth waiting for.
func (t *session) skip(r *request) error {
	if r.Command != wire.CmdWrite {
		return nil
	}
	if uint64(r.Length) > 2*uint64(t.server.limits.PayloadMax) {
		return fmt.Errorf("a WRITE of %d bytes is far over the limit", r.Length)
	}
	return t.in.discard(uint64(r.Length))
}

// answered counts a request whose reply is made and queues it for the writer.
func (t *session) answered(r *request, errno wire.Errno) {
	t.server.metrics.answered(r, errno)
	t.out.push(r)
}
