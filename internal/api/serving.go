package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"tidemark/internal/fault"
)

// requestsMax bounds the requests that one Serve handles at a time; further ones wait
// in the subscription.
const requestsMax = 64

// serving is one call of Serve: its subscriptions and the requests under way.
type serving struct {
	ctx           context.Context //nolint:containedctx // the life of the subscriptions, which outlive the call
	cancel        context.CancelFunc
	nc            *nats.Conn
	log           *slog.Logger
	subscriptions []*nats.Subscription
	slots         chan struct{}
	longSlots     chan struct{} // of requests that may go on for hours

	// mu makes sure that no handler starts once stop waits for those that run.
	mu      sync.Mutex
	stopped bool
	running sync.WaitGroup
}

func newServing(ctx context.Context, nc *nats.Conn, log *slog.Logger) *serving {
	ctx, cancel := context.WithCancel(ctx)
	return &serving{ctx: ctx, cancel: cancel, nc: nc, log: log, slots: make(chan struct{}, requestsMax), longSlots: make(chan struct{}, requestsMax)}
}

// answer starts a request's handler. The subscription's own goroutine waits for a slot.
func (s *serving) answer(h Handler, msg *nats.Msg) {
	if !answerable(msg.Reply) {
		s.log.Warn("request not answered: its reply would go to where facts are", "subject", h.subject)
		return
	}
	slots := s.slots
	if h.long != nil {
		slots = s.longSlots
	}
	select {
	case slots <- struct{}{}:
	case <-s.ctx.Done():
		s.refuseLate(h, msg)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		s.refuseLate(h, msg)
		return
	}
	s.running.Go(func() {
		defer func() { <-slots }()
		ctx, cancel := s.bounded(h, msg)
		defer cancel()
		if !take(ctx, s.nc, msg) {
			return
		}
		if err := h.respond(ctx, s.nc, msg); err != nil {
			s.log.Warn("answer not sent", "subject", h.subject, "error", err)
		}
	})
}

// bounded returns the context of a request. Its cancel is to be called, or it stays until
// serving ends.
func (s *serving) bounded(h Handler, msg *nats.Msg) (context.Context, context.CancelFunc) {
	if h.long != nil || paced(h, msg) {
		return context.WithCancel(s.ctx)
	}
	return context.WithTimeout(s.ctx, requestTime)
}

// refuseLate answers a request that arrived while serving ended: its sender would wait for
// an answer that nobody gives. Who waits for its request to be taken asks again by itself.
func (s *serving) refuseLate(h Handler, msg *nats.Msg) {
	if msg.Header.Get(takeHeader) != "" {
		return
	}
	err := fault.New(fault.NotReady, "who answers %s is stopping, or begins anew", h.subject)
	if err := msg.Respond(encode(nil, err)); err != nil {
		s.log.Warn("refusal not sent", "subject", h.subject, "error", err)
	}
}

// answerable reports whether an answer may go to a subject: not where facts, requests or the
// server's own commands are. The server lets a user name any subject for the reply, also one
// that the user may not publish to, and the service may.
func answerable(reply string) bool {
	return !strings.HasPrefix(reply, "tidemark.") && !strings.HasPrefix(reply, "$")
}

// paced reports whether a receiver decides how long a request takes.
func paced(h Handler, msg *nats.Msg) bool {
	return h.series != nil && msg.Header.Get(pacedHeader) != ""
}

func (h Handler) respond(ctx context.Context, nc *nats.Conn, msg *nats.Msg) error {
	switch {
	case paced(h, msg):
		p, err := newPacer(nc, msg)
		if err != nil {
			return err
		}
		defer p.close()
		if err := h.series(ctx, msg.Data, func(data []byte) error { return p.send(ctx, data) }); err != nil {
			return msg.Respond(encode(nil, err))
		}
		return nil
	case h.series != nil:
		if err := h.series(ctx, msg.Data, msg.Respond); err != nil {
			return msg.Respond(encode(nil, err))
		}
		return nil
	case h.long != nil:
		return h.reply(msg, encode(h.telling(ctx, msg)))
	case msg.Header.Get(partsHeader) != "":
		return sendParts(msg, encode(h.handle(ctx, msg.Subject, msg.Data)))
	}
	return h.reply(msg, encode(h.handle(ctx, msg.Subject, msg.Data)))
}

func (h Handler) reply(msg *nats.Msg, answer []byte) error {
	err := msg.Respond(answer)
	if errors.Is(err, nats.ErrMaxPayload) {
		err = msg.Respond(encode(nil, fault.New(fault.Internal, "the answer to %s is too large: %w", h.subject, err)))
	}
	return err
}

// encode encodes a reply, or an error, as an envelope. A reply may be large: it is encoded once.
func encode(reply any, err error) []byte {
	if err == nil {
		var out []byte
		out, err = json.Marshal(struct {
			Reply any `json:"reply"`
		}{reply})
		if err == nil {
			return out
		}
	}
	out, _ := json.Marshal(envelope{Error: &Refusal{fault.CodeOf(err), err.Error()}}) // strings always encode
	return out
}

// stop ends the subscriptions and waits for the handlers that run. What the server has
// sent before it hears of that still arrives, and is refused; nobody waits for it.
func (s *serving) stop() {
	for _, sub := range s.subscriptions {
		end := sub.Drain
		if !s.nc.IsConnected() {
			// Nothing can arrive; and what is being drained would be subscribed to anew at the
			// server when the connection is back, for nobody.
			end = sub.Unsubscribe
		}
		_ = end() // the connection is gone: so is the subscription
	}
	s.cancel()
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.running.Wait()
}
