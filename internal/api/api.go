// Package api is what the command line says to a running site: JSON requests and
// replies over NATS, so that they can be tried with the stock nats command. Nothing
// here is stored; a request that changes something is answered only after the fact
// that says so is durable.
//
// A failed request is answered with {"error":{"code":…,"message":…}} (codes: package
// fault). Every request is bounded by the server's largest message, decoded strictly
// (unknown fields are refused) and answered once.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/fault"
)

// requestTime bounds the handling of one request: a client that waits longer has a
// timeout of its own, and nobody holds a handler for ever.
const requestTime = 60 * time.Second

type envelope struct {
	Error *Refusal        `json:"error,omitempty"`
	Reply json.RawMessage `json:"reply,omitempty"`
	// Progress is set alone, in messages before the answer: see [OnLong].
	Progress *Progress `json:"progress,omitempty"`
}

// Call sends a request and waits for its reply until ctx ends. It returns the
// [*fault.Error] that the service answered with; [fault.Timeout] when nobody did.
func Call[Reply any](ctx context.Context, nc *nats.Conn, subject string, request any) (Reply, error) {
	var reply Reply
	body, err := json.Marshal(request)
	if err != nil {
		return reply, fault.New(fault.Internal, "encode request: %w", err)
	}
	msg, err := nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return reply, unanswered(nc, subject, body, err)
	}
	var env envelope
	if err := json.Unmarshal(msg.Data, &env); err != nil {
		return reply, fault.New(fault.Corrupt, "answer to %s: %w", subject, err)
	}
	return open[Reply](subject, env)
}

// unanswered says why a request got no answer.
func unanswered(nc *nats.Conn, subject string, body []byte, err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return fault.New(fault.Timeout, "no service answers %s at %s: %w", subject, nc.ConnectedUrlRedacted(), err)
	case errors.Is(err, nats.ErrMaxPayload):
		return fault.New(fault.Usage, "request to %s: %d bytes: %w", subject, len(body), err)
	}
	return fault.New(fault.Timeout, "waiting for an answer to %s: %w", subject, err)
}

// open returns what an answer holds: a reply, or an error.
func open[Reply any](subject string, env envelope) (Reply, error) {
	var reply Reply
	if env.Error != nil {
		return reply, &fault.Error{Code: env.Error.Code, Message: env.Error.Message}
	}
	if err := json.Unmarshal(env.Reply, &reply); err != nil {
		return reply, fault.New(fault.Corrupt, "answer to %s: %w", subject, err)
	}
	return reply, nil
}

// Handler answers one kind of request.
type Handler struct {
	subject string
	handle  func(ctx context.Context, subject string, body []byte) (any, error)
	long    func(ctx context.Context, body []byte, tell func(Progress)) (any, error)
	series  func(ctx context.Context, body []byte, send func([]byte) error) error
}

// On makes a handler of a function. Its errors are answered by their code.
func On[Request, Reply any](subject string, f func(context.Context, Request) (Reply, error)) Handler {
	return Handler{subject: subject, handle: func(ctx context.Context, _ string, body []byte) (any, error) {
		request, err := decode[Request](subject, body)
		if err != nil {
			return nil, err
		}
		return f(ctx, request)
	}}
}

// OnShared is [On] for requests whose subject names a pool, as [SharedResolve] does: one that
// asks for another pool is refused, because its sender was let ask for that one alone.
func OnShared[Request, Reply any](subjects string, pool func(Request) string, f func(context.Context, Request) (Reply, error)) Handler {
	return Handler{subject: subjects, handle: func(ctx context.Context, subject string, body []byte) (any, error) {
		request, err := decode[Request](subject, body)
		if err != nil {
			return nil, err
		}
		if named := strings.Replace(subjects, "*", events.Token(pool(request)), 1); named != subject {
			return nil, fault.New(fault.Denied, "request to %s: it is about another pool", subject)
		}
		return f(ctx, request)
	}}
}

// OnSeries makes a handler of a function that answers with several messages of its own
// form. Its error is answered in the form of this package; see [AnsweredError].
func OnSeries[Request any](subject string, f func(ctx context.Context, r Request, send func([]byte) error) error) Handler {
	return Handler{subject: subject, series: func(ctx context.Context, body []byte, send func([]byte) error) error {
		request, err := decode[Request](subject, body)
		if err != nil {
			return err
		}
		return f(ctx, request, send)
	}}
}

func decode[Request any](subject string, body []byte) (Request, error) {
	var request Request
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&request); err != nil {
		return request, fault.New(fault.Usage, "request to %s: %w", subject, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return request, fault.New(fault.Usage, "request to %s: something follows the request", subject)
	}
	return request, nil
}

// AnsweredError returns the error that a message of a series stands for, or nil if it is
// none.
func AnsweredError(msg []byte) error {
	var env envelope
	if len(msg) == 0 || msg[0] != '{' || json.Unmarshal(msg, &env) != nil || env.Error == nil {
		return nil //nolint:nilerr // what does not decode is no error message
	}
	return &fault.Error{Code: env.Error.Code, Message: env.Error.Message}
}

// Serve answers requests until the returned function is called, which waits for the
// handlers that run. Each request has a goroutine of its own; instances that serve the
// same subject share the requests.
func Serve(ctx context.Context, nc *nats.Conn, log *slog.Logger, handlers ...Handler) (stop func(), err error) {
	s := newServing(ctx, nc, log)
	for _, h := range handlers {
		sub, err := nc.QueueSubscribe(h.subject, "tidemark", func(msg *nats.Msg) { s.answer(h, msg) })
		if err != nil {
			s.stop()
			return nil, err
		}
		s.subscriptions = append(s.subscriptions, sub)
	}
	if err := nc.Flush(); err != nil {
		s.stop()
		return nil, err
	}
	return s.stop, nil
}

// Nobody reports whether an error of [Call] says that no service listens for the
// request: it was not delivered, and may be sent again.
func Nobody(err error) bool { return errors.Is(err, nats.ErrNoResponders) }
