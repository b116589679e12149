package api

import (
	"context"
	"encoding/json"

	"github.com/nats-io/nats.go"

	"tidemark/internal/fault"
)

// partBytes bounds the parts of an answer, well below what any server allows in a message.
const partBytes = 512 << 10

// partsHeader marks a request whose sender takes the answer in parts.
const partsHeader = "Tidemark-Parts"

// The first byte of a part says whether another one follows.
const (
	partMore = 'm'
	partLast = 'e'
)

// CallParts is [CallTaken] for an answer that may be larger than a message: it comes in parts. A
// service that knows no parts answers as it does to Call.
func CallParts[Reply any](ctx context.Context, nc *nats.Conn, subject string, request any) (Reply, error) {
	var none Reply
	body, err := json.Marshal(request)
	if err != nil {
		return none, fault.New(fault.Internal, "encode request: %w", err)
	}
	answer, err := askParts(ctx, nc, &nats.Msg{
		Subject: subject, Data: body, Header: nats.Header{partsHeader: {"yes"}},
	})
	if err != nil {
		return none, unanswered(nc, subject, body, err)
	}
	var reply Reply
	env := struct {
		Error *Refusal `json:"error"`
		Reply *Reply   `json:"reply"`
	}{Reply: &reply}
	if err := json.Unmarshal(answer, &env); err != nil {
		return none, fault.New(fault.Corrupt, "answer to %s: %w", subject, err)
	}
	if env.Error != nil {
		return none, &fault.Error{Code: env.Error.Code, Message: env.Error.Message}
	}
	return reply, nil
}

// askParts returns the parts of an answer as one.
func askParts(ctx context.Context, nc *nats.Conn, question *nats.Msg) ([]byte, error) {
	a, err := askOne(nc, question)
	if err != nil {
		return nil, err
	}
	defer a.close()
	var answer []byte
	for {
		msg, err := a.next(ctx)
		switch {
		case err != nil:
			return nil, err
		case len(msg.Data) > 0 && msg.Data[0] == partMore:
			answer = append(answer, msg.Data[1:]...)
		case len(msg.Data) > 0 && msg.Data[0] == partLast:
			return append(answer, msg.Data[1:]...), nil
		default: // of a service that knows no parts
			return msg.Data, nil
		}
	}
}

// sendParts answers a request of [CallParts]. The receiver need not ask for more: a list is
// small beside what a connection may have under way.
func sendParts(msg *nats.Msg, answer []byte) error {
	for {
		n := min(len(answer), partBytes)
		kind := byte(partMore)
		if n == len(answer) {
			kind = partLast
		}
		if err := msg.Respond(append([]byte{kind}, answer[:n]...)); err != nil {
			return err
		}
		if answer = answer[n:]; len(answer) == 0 {
			return nil
		}
	}
}
