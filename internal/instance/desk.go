package instance

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/fault"
)

// take starts one delivery of a request. It never blocks: NATS delivers one message of a
// subscription at a time.
func (d *desk) take(ctx context.Context, m *nats.Msg) {
	fact, err := events.Unmarshal(m.Data)
	if err != nil {
		d.refuse(m, nil, fault.New(fault.Usage, "control request: %w", err))
		return
	}
	r, err := d.check(fact)
	if err != nil {
		d.refuse(m, r, err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	c, known := d.calls[r.assignment.Operation]
	if !known && len(d.calls)-len(d.done) >= waitingMax {
		d.respond(m, r.acknowledge(events.Mark{}, false, fault.New(fault.Busy, "%d requests wait already", waitingMax)))
		return
	}
	if !known {
		c = &call{done: make(chan struct{})}
		d.calls[r.assignment.Operation] = c
		before := d.last[r.assignment.Directory]
		d.last[r.assignment.Directory] = c
		d.running.Go(func() { d.run(ctx, r, c, before) })
	}
	d.running.Go(func() {
		<-c.done
		if c.answer != nil {
			d.respond(m, c.answer)
		}
	})
}

// check says what a fact asks for, and why it cannot be done here.
func (d *desk) check(fact events.Fact) (*request, error) {
	r := newRequest(fact)
	if r == nil {
		return nil, fault.New(fault.Usage, "control request: a %s asks for nothing", fact.Kind())
	}
	a := r.assignment
	switch {
	case a.Operation == "" || a.Directory == "":
		return r, fault.New(fault.Usage, "control request: no operation or no directory")
	case a.Node != d.node.Name || events.ServiceOf(a.Role) != d.service:
		return r, fault.New(fault.Usage, "control request for %s of %q came to %s of %q",
			events.ServiceOf(a.Role), a.Node, d.service, d.node.Name)
	case a.Incarnation != d.node.Incarnation:
		r.assignment.Incarnation = d.node.Incarnation
		return r, fault.New(fault.Fenced, "%s of %s was started again since", d.service, d.node.Name)
	}
	return r, nil
}

func (d *desk) refuse(m *nats.Msg, r *request, err error) {
	d.mu.Lock()
	d.refused++
	count := d.refused
	d.mu.Unlock()
	d.log.Warn("control request refused", "error", err, "refused", count)
	if r == nil {
		r = newRequest(&events.AcquireRequested{})
	}
	d.respond(m, r.acknowledge(events.Mark{}, false, err))
}

func (d *desk) respond(m *nats.Msg, answer []byte) {
	if m.Reply == "" {
		return
	}
	if err := m.Respond(answer); err != nil {
		d.log.Warn("control answer not sent", "error", err)
	}
}

// run carries one operation out behind the one before it.
func (d *desk) run(ctx context.Context, r *request, c *call, before *call) {
	defer d.finish(r, c)
	if before != nil {
		<-before.done
	}
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-ctx.Done():
		return
	}
	if ctx.Err() != nil {
		return
	}
	log := d.log.With("directory", r.assignment.Directory, "operation", r.assignment.Operation, "epoch", r.assignment.Epoch)
	log.Debug("control request", "kind", r.kind)
	d.begins(r)
	mark, quiesced, err := r.perform(ctx, d.holder)
	if r.release != nil && err == nil {
		d.isFree(r.assignment.Directory)
	}
	if ctx.Err() != nil {
		return // the outcome says nothing about the directory: the agent ended
	}
	if err != nil {
		log.Warn("control request failed", "kind", r.kind, "error", err)
	}
	c.answer = r.acknowledge(mark, quiesced, err)
}

// begins notes that a request is about to be carried out.
func (d *desk) begins(r *request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.acquire != nil {
		d.held[r.assignment.Directory] = r.acquire
	}
}

// isFree notes that a directory was let go of.
func (d *desk) isFree(id events.DirectoryID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.held, id)
}

// heldDirectories returns what may be held, in no order.
func (d *desk) heldDirectories() []*events.AcquireRequested {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]*events.AcquireRequested, 0, len(d.held))
	for _, r := range d.held {
		all = append(all, r)
	}
	return all
}

// finish makes the answer public, and forgets the oldest one.
func (d *desk) finish(r *request, c *call) {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(c.done)
	if d.last[r.assignment.Directory] == c {
		delete(d.last, r.assignment.Directory)
	}
	d.done = append(d.done, r.assignment.Operation)
	if len(d.done) > answersMax {
		delete(d.calls, d.done[0])
		d.done = d.done[1:]
	}
}

// request is an acquire or a release.
type request struct {
	kind       string
	assignment events.Assignment
	acquire    *events.AcquireRequested // exactly one of the two is set
	release    *events.ReleaseRequested
}

func newRequest(fact events.Fact) *request {
	switch f := fact.(type) {
	case *events.AcquireRequested:
		return &request{kind: f.Kind(), assignment: f.Assignment, acquire: f}
	case *events.ReleaseRequested:
		return &request{kind: f.Kind(), assignment: f.Assignment, release: f}
	}
	return nil
}

func (r *request) perform(ctx context.Context, h Holder) (mark events.Mark, quiesced bool, err error) {
	if r.acquire != nil {
		mark, err = h.Acquire(ctx, r.acquire)
		return mark, false, err
	}
	return h.Release(ctx, r.release)
}

// acknowledge encodes the answer: the request's assignment, and err by its code.
func (r *request) acknowledge(mark events.Mark, quiesced bool, err error) []byte {
	var code, message string
	if err != nil {
		code, message = string(fault.CodeOf(err)), err.Error()
	}
	now := events.InstantOf(time.Now())
	var ack events.Fact
	if r.acquire != nil {
		ack = &events.AcquireAcknowledged{Assignment: r.assignment, Code: code, Message: message, Mark: mark, At: now}
	} else {
		ack = &events.ReleaseAcknowledged{
			Assignment: r.assignment, Code: code, Message: message, Quiesced: quiesced && err == nil, Mark: mark, At: now,
		}
	}
	answer, err := events.Marshal(ack)
	if err != nil {
		panic(fmt.Sprintf("encode %s: %v", ack.Kind(), err)) // strings and numbers always encode
	}
	return answer
}
