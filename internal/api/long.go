package api

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/internal/fault"
)

// progressHeader marks a request whose sender wants to hear how the work goes on. Who
// does not know it gets the answer alone.
const progressHeader = "Tidemark-Progress"

// progressInterval is how often a long request's sender hears of it, so that silence
// means that nobody works on it any more.
const progressInterval = time.Second

// OnLong makes a handler of a function whose work may take hours: nothing bounds it but
// the end of serving, and its sender hears every second what the function told last.
func OnLong[Request, Reply any](subject string, f func(ctx context.Context, r Request, tell func(Progress)) (Reply, error)) Handler {
	return Handler{subject: subject, long: func(ctx context.Context, body []byte, tell func(Progress)) (any, error) {
		request, err := decode[Request](subject, body)
		if err != nil {
			return nil, err
		}
		return f(ctx, request, tell)
	}}
}

// telling handles a long request and sends its progress until it is done.
func (h Handler) telling(ctx context.Context, msg *nats.Msg) (any, error) {
	var newest atomic.Pointer[Progress]
	newest.Store(&Progress{})
	if msg.Header.Get(progressHeader) != "" {
		working, done := context.WithCancel(ctx)
		told := make(chan struct{})
		go func() {
			defer close(told)
			tellUntilDone(working, msg, newest.Load)
		}()
		defer func() { done(); <-told }() // nothing follows the answer
	}
	return h.long(ctx, msg.Data, func(p Progress) { newest.Store(&p) })
}

func tellUntilDone(ctx context.Context, msg *nats.Msg, newest func() *Progress) {
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			news, _ := json.Marshal(envelope{Progress: newest()}) // numbers always encode
			if msg.Respond(news) != nil {
				return // the answer will meet the same error, and report it
			}
		}
	}
}

// CallLong is [Call] for a request of [OnLong]: it waits as long as the service goes on
// telling, which tell is given. [fault.Timeout] is returned after silence.
func CallLong[Reply any](ctx context.Context, nc *nats.Conn, subject string, request any, silence time.Duration, tell func(Progress)) (Reply, error) {
	var none Reply
	body, err := json.Marshal(request)
	if err != nil {
		return none, fault.New(fault.Internal, "encode request: %w", err)
	}
	inbox, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return none, unanswered(nc, subject, body, err)
	}
	defer func() { _ = inbox.Unsubscribe() }() // the connection is gone: so is the subscription
	msg := &nats.Msg{Subject: subject, Reply: inbox.Subject, Data: body, Header: nats.Header{progressHeader: {"yes"}}}
	if err := nc.PublishMsg(msg); err != nil {
		return none, unanswered(nc, subject, body, err)
	}
	for {
		env, err := nextEnvelope(ctx, inbox, silence)
		switch {
		case err != nil && fault.CodeOf(err) == fault.Corrupt:
			return none, fault.New(fault.Corrupt, "answer to %s: %w", subject, err)
		case err != nil:
			return none, unanswered(nc, subject, body, err)
		case env.Progress == nil:
			return open[Reply](subject, env)
		}
		tell(*env.Progress)
	}
}

// nextEnvelope waits for one message of a long request.
func nextEnvelope(ctx context.Context, inbox *nats.Subscription, silence time.Duration) (envelope, error) {
	var env envelope
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	msg, err := inbox.NextMsgWithContext(ctx)
	if err != nil {
		return env, err
	}
	if err := json.Unmarshal(msg.Data, &env); err != nil {
		return env, fault.New(fault.Corrupt, "%w", err)
	}
	return env, nil
}
