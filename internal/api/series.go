package api

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"tidemark/internal/fault"
)

// pacedHeader marks a request for a series whose receiver asks for every message after the
// first: never more than one is under way, so that what is large neither fills a slow link
// for long nor comes faster than its receiver wants. Who does not know it sends all at once.
const pacedHeader = "Tidemark-Paced"

// What a receiver says to the subject that a message of a paced series names for replies.
const (
	paceNext = "next" // send the next one
	paceHold = "hold" // I am still here, and want nothing yet
)

// PaceSubjects matches where a receiver asks for the next message of a series. They lie
// outside the sender's inbox, so that a receiver can be let ask and answer nothing else.
const PaceSubjects = "tidemark.pace.*"

func newPace() string { return strings.TrimSuffix(PaceSubjects, "*") + nuid.Next() }

// paceSilence is how long a sender waits to hear anything of its receiver: one that is gone
// holds up nothing. paceHoldAge is how often a receiver says at least that it is there.
const (
	paceSilence = 5 * time.Second
	paceHoldAge = time.Second
)

// pacer sends the messages of a series when they are asked for.
type pacer struct {
	msg  *nats.Msg // the request
	nc   *nats.Conn
	asks *nats.Subscription
	sent bool
}

func newPacer(nc *nats.Conn, msg *nats.Msg) (*pacer, error) {
	asks, err := nc.SubscribeSync(newPace())
	return &pacer{msg: msg, nc: nc, asks: asks}, err
}

func (p *pacer) send(ctx context.Context, data []byte) error {
	if p.sent {
		if err := p.awaitAsked(ctx); err != nil {
			return err
		}
	}
	p.sent = true
	return p.nc.PublishMsg(&nats.Msg{Subject: p.msg.Reply, Reply: p.asks.Subject, Data: data})
}

func (p *pacer) awaitAsked(ctx context.Context) error {
	for {
		within, cancel := context.WithTimeout(ctx, paceSilence)
		ask, err := p.asks.NextMsgWithContext(within)
		cancel()
		switch {
		case err != nil:
			return fault.New(fault.Timeout, "wait for the receiver of %s: %w", p.msg.Subject, err)
		case isNobody(ask):
			return fault.New(fault.Timeout, "the receiver of %s is gone: %w", p.msg.Subject, nats.ErrNoResponders)
		case string(ask.Data) == paceNext:
			return nil
		}
	}
}

func (p *pacer) close() { _ = p.asks.Unsubscribe() } // fails only with the connection

// isNobody reports whether a message is the server's word that nobody listens.
func isNobody(msg *nats.Msg) bool {
	return len(msg.Data) == 0 && msg.Header.Get("Status") == "503"
}

// Series is the answer to a request of [OnSeries].
type Series struct {
	nc   *nats.Conn
	sub  *nats.Subscription
	asks string // where to ask for the next message; empty: it comes by itself
}

// CallSeries sends a request that is answered with a series.
func CallSeries(nc *nats.Conn, subject string, request any) (*Series, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fault.New(fault.Internal, "encode request: %w", err)
	}
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", subject, err)
	}
	s := &Series{nc: nc, sub: sub}
	msg := &nats.Msg{Subject: subject, Reply: sub.Subject, Data: body, Header: nats.Header{pacedHeader: {"yes"}}}
	if err := nc.PublishMsg(msg); err != nil {
		s.Close()
		return nil, fmt.Errorf("ask for %s: %w", subject, err)
	}
	return s, nil
}

// Next returns the next message of the series, for which it waits until ctx ends. The error
// that the series ended with is returned as [AnsweredError] has it.
func (s *Series) Next(ctx context.Context) ([]byte, error) {
	if err := s.say(paceNext); err != nil {
		return nil, err
	}
	msg, err := s.sub.NextMsgWithContext(ctx)
	switch {
	case err != nil:
		return nil, err
	case isNobody(msg):
		return nil, nats.ErrNoResponders
	}
	s.asks = msg.Reply
	return msg.Data, AnsweredError(msg.Data)
}

// Hold calls f, which may take its time, while the sender is told that the receiver is
// still there.
func (s *Series) Hold(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	tick := time.NewTicker(paceHoldAge)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			_ = s.say(paceHold) // the connection is gone: Next will say so
		}
	}
}

func (s *Series) say(what string) error {
	if s.asks == "" {
		return nil
	}
	return s.nc.Publish(s.asks, []byte(what))
}

// Close ends the receiving. A sender that has more is told by the server that nobody
// listens.
func (s *Series) Close() { _ = s.sub.Unsubscribe() } // fails only with the connection
