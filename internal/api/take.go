package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/internal/fault"
)

// Several members of a service share its requests, and one of them may hang: it is stopped,
// or its link is dead and the server does not know yet. So a request of [CallTaken] is
// carried out only when its sender says so to who has taken it:
//
//	sender ──request──► one member ──taken──► sender ──go──► that member ──answer──► sender
//
// What nobody takes within takeTime is sent again, to whichever member the server chooses.
// Who takes it too late, perhaps minutes later, is not told to go, and drops it: what a
// person was told had timed out does not happen afterwards. Who has taken it and ends before
// it is told to go gives it back, by a message that names what it listened to; its sender asks
// again, if it is the one that was told to go.
const (
	takeHeader = "Tidemark-Take"
	takeTime   = time.Second
	goTime     = 5 * time.Second
)

// ErrTaken is in the error of [CallTaken] when a member was told to carry the request out and
// did not answer in time: it may have done so all the same. Without it nothing was done.
var ErrTaken = errors.New("it was taken up, and may have been carried out all the same")

// CallTaken is [Call] for a request that several members may serve, of which some may hang.
func CallTaken[Reply any](ctx context.Context, nc *nats.Conn, subject string, request any) (Reply, error) {
	var none Reply
	body, err := json.Marshal(request)
	if err != nil {
		return none, fault.New(fault.Internal, "encode request: %w", err)
	}
	a, err := askOne(nc, &nats.Msg{Subject: subject, Data: body, Header: nats.Header{}})
	if err != nil {
		return none, unanswered(nc, subject, body, err)
	}
	defer a.close()
	msg, err := a.next(ctx)
	if err != nil && a.gone {
		err = fmt.Errorf("%w: %w", ErrTaken, err)
	}
	if err != nil {
		return none, unanswered(nc, subject, body, err)
	}
	var env envelope
	if err := json.Unmarshal(msg.Data, &env); err != nil {
		return none, fault.New(fault.Corrupt, "answer to %s: %w", subject, err)
	}
	return open[Reply](subject, env)
}

// asking is a request that is sent until a member takes it.
type asking struct {
	nc       *nats.Conn
	question *nats.Msg
	inbox    *nats.Subscription
	gone     bool   // a member was told to carry it out, or has done so untold
	told     string // where that member listened
}

func askOne(nc *nats.Conn, question *nats.Msg) (*asking, error) {
	inbox, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return nil, err
	}
	question.Reply = inbox.Subject
	question.Header.Set(takeHeader, "yes")
	a := &asking{nc: nc, question: question, inbox: inbox}
	if err := nc.PublishMsg(question); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *asking) close() { _ = a.inbox.Unsubscribe() } // fails only with the connection

// next returns the next message of the answer.
func (a *asking) next(ctx context.Context) (*nats.Msg, error) {
	for {
		msg, err := a.wait(ctx)
		switch {
		case err != nil && ctx.Err() == nil && !a.gone && errors.Is(err, context.DeadlineExceeded):
			err = a.nc.PublishMsg(a.question)
		case err == nil && isNobody(msg):
			err = nats.ErrNoResponders
		case err == nil && msg.Header.Get(takeHeader) != "":
			if a.told == msg.Header.Get(takeHeader) {
				a.gone, a.told = false, ""
				err = a.nc.PublishMsg(a.question)
			}
		case err == nil && msg.Reply == "":
			a.gone = true
			return msg, nil
		case err == nil && !a.gone:
			a.gone, a.told = true, msg.Reply
			err = a.nc.Publish(msg.Reply, nil)
		}
		if err != nil {
			return nil, err
		}
	}
}

// wait waits for a message: until it is taken, not for long.
func (a *asking) wait(ctx context.Context) (*nats.Msg, error) {
	if !a.gone {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, takeTime)
		defer cancel()
	}
	return a.inbox.NextMsgWithContext(ctx)
}

// take says that a request is taken, and reports whether it is to be carried out: its
// sender is there, and has not turned to another member. It gives the request back if ctx ends
// before that is known.
func take(ctx context.Context, nc *nats.Conn, msg *nats.Msg) bool {
	if msg.Header.Get(takeHeader) == "" {
		return true
	}
	goes, err := nc.SubscribeSync(newPace())
	if err != nil {
		return false
	}
	defer func() { _ = goes.Unsubscribe() }() // fails only with the connection
	if err := msg.RespondMsg(&nats.Msg{Reply: goes.Subject}); err != nil {
		return false
	}
	waiting, cancel := context.WithTimeout(ctx, goTime)
	defer cancel()
	answer, err := goes.NextMsgWithContext(waiting)
	if err != nil && ctx.Err() != nil {
		_ = msg.RespondMsg(&nats.Msg{Header: nats.Header{takeHeader: {goes.Subject}}}) // fails only with the connection
	}
	return err == nil && !isNobody(answer)
}
