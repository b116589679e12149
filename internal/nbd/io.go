package nbd

import (
	"context"

	"tidemark/internal/nbd/wire"
)

// payloadStep is how much memory a WRITE gets before its data has begun to arrive.
const payloadStep = 1 << 20

// write gives a WRITE to the device. Small data is handed on where it arrived.
func (t *session) write(ctx context.Context, r *request) error {
	fua := r.Flags&wire.CmdFlagFUA != 0
	n := int(r.Length)
	if n <= takeMax {
		p, err := t.in.take(n)
		if err != nil {
			t.out.forget(r)
			return err
		}
		t.out.engage(r)
		t.dev.Write(ctx, p, r.Offset, fua, r.done)
		return nil
	}
	buf, err := t.payload(n)
	defer func() { t.server.buffers.put(buf) }()
	if err != nil {
		t.out.forget(r)
		return err
	}
	t.out.engage(r)
	t.dev.Write(ctx, buf.data(n), r.Offset, fua, r.done)
	return nil
}

// payload reads n bytes into a buffer, which grows as they arrive: who claims much and
// sends nothing gets little.
func (t *session) payload(n int) (*buffer, error) {
	pool := &t.server.buffers
	buf := pool.get(min(n, payloadStep))
	for have := 0; ; {
		upto := min(n, buf.size())
		if err := t.in.read(buf.data(upto)[have:]); err != nil {
			return buf, err
		}
		if have = upto; have == n {
			return buf, nil
		}
		larger := pool.get(min(n, 4*have))
		copy(larger.data(have), buf.data(have))
		pool.put(buf)
		buf = larger
	}
}

// answer serves what is queued for reading.
func (t *session) answer(ctx context.Context, r *request) {
	if r.Command == wire.CmdBlockStatus {
		t.blockStatus(ctx, r)
	} else {
		t.read(ctx, r)
	}
}

// read answers a READ. The reply is begun only when all data is there: after a simple
// header that says success, a failure could not be told any more.
func (t *session) read(ctx context.Context, r *request) {
	n := int(r.Length)
	r.buf = t.server.buffers.get(n)
	if err := t.dev.ReadAt(ctx, r.buf.data(n), r.Offset); err != nil {
		r.fail(err)
		return
	}
	var scratch [headroom]byte
	header := r.dataHeader(scratch[:0])
	r.reply = r.buf.b[headroom-len(header) : headroom+n]
	copy(r.reply, header)
	t.answered(r, 0)
}

// blockStatus answers a BLOCK_STATUS.
func (t *session) blockStatus(ctx context.Context, r *request) {
	extents, err := t.dev.Extents(ctx, r.Offset, uint64(r.Length))
	if err != nil {
		r.fail(err)
		return
	}
	r.reply = r.status(extents)
	t.answered(r, 0)
}
