package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A guest is delivered what it reads: it may not pull (package access says why). A delivery is
// made once, to whoever listens then; what is lost on the way shows by its number, and is read
// anew.
const (
	// beat is how often the server says that there is nothing new; three of them that do not
	// come are a delivery that has ended.
	beat      = 2 * time.Second
	beatsLost = 3
	// windowBegin is how much the server sends before it is told that it was taken, and
	// windowMax how much it is let send: it doubles each time, to far more than a slow link
	// carries before the server gives the connection up. So a delivery ends when windowMax is
	// used up, and another one begins.
	windowBegin = 2 << 20
	windowMax   = 4 << 20
)

// Headers of what the server says besides messages.
const (
	statusHeader       = "Status"
	statusControl      = "100"
	lastConsumerHeader = "Nats-Last-Consumer"
	stalledHeader      = "Nats-Consumer-Stalled"
)

// errTaken ends a delivery of which everything has arrived.
var errTaken = errors.New("all that was to be delivered has arrived")

// errMissed ends a delivery of which a part was lost.
var errMissed = errors.New("a part of what was delivered did not arrive")

// incoming is what a reader is given. next waits until ctx ends.
type incoming interface {
	next(ctx context.Context) (delivered, error)
}

// delivered is a message with its place in the stream.
type delivered struct {
	sequence uint64
	subject  string
	data     []byte
}

// pulled are messages that are asked for.
type pulled struct{ it jetstream.MessagesContext }

func (p pulled) next(ctx context.Context) (delivered, error) {
	msg, err := p.it.Next(jetstream.NextContext(ctx))
	if err != nil {
		return delivered{}, err
	}
	meta, err := msg.Metadata()
	if err != nil {
		return delivered{}, err
	}
	return delivered{meta.Sequence.Stream, msg.Subject(), msg.Data()}, nil
}

// pushed are messages that come by themselves. The server sends on as it is told that they
// were taken (flow control).
type pushed struct {
	nc   *nats.Conn
	sub  *nats.Subscription
	seen uint64 // the number of the last one among those of this delivery
	// window is how much the server may send beyond what it was last told of, taken what of
	// it has come.
	window, taken int
	heard         time.Time // when anything came last
}

func (p *pushed) next(ctx context.Context) (delivered, error) {
	for {
		if p.taken > p.window {
			return delivered{}, errTaken // nothing more comes
		}
		msg, err := p.wait(ctx)
		if err != nil {
			return delivered{}, err
		}
		if status := msg.Header.Get(statusHeader); status == statusControl {
			if err := p.control(msg); err != nil {
				return delivered{}, err
			}
			continue
		} else if status != "" {
			return delivered{}, fmt.Errorf("delivery ended with status %s", status)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return delivered{}, err
		}
		if meta.Sequence.Consumer != p.seen+1 {
			return delivered{}, errMissed
		}
		p.seen++
		p.taken += len(p.sub.Subject) + msg.Size() - len(msg.Subject) // as the server counts
		return delivered{meta.Sequence.Stream, msg.Subject, msg.Data}, nil
	}
}

func (p *pushed) wait(ctx context.Context) (*nats.Msg, error) {
	bounded, cancel := context.WithDeadline(ctx, p.heard.Add(beatsLost*beat))
	defer cancel()
	msg, err := p.sub.NextMsgWithContext(bounded)
	switch {
	case err == nil:
		p.heard = time.Now()
	case ctx.Err() == nil && bounded.Err() != nil:
		return nil, errMissed
	}
	return msg, err
}

// control answers the server's question how far this reader is, and hears whether all came
// that was sent.
func (p *pushed) control(msg *nats.Msg) error {
	if msg.Reply != "" {
		if p.window*2 > windowMax {
			return nil
		}
		p.window, p.taken = p.window*2, 0
		return p.nc.Publish(msg.Reply, nil)
	}
	if last, err := strconv.ParseUint(msg.Header.Get(lastConsumerHeader), 10, 64); err == nil && last != p.seen {
		return errMissed
	}
	if msg.Header.Get(stalledHeader) != "" {
		return errTaken
	}
	return nil
}

// deliver has the server deliver a stream from a sequence on; stop ends that.
func (b *Bus) deliver(ctx context.Context, stream string, from uint64) (in incoming, stop func(), err error) {
	sub, err := b.nc.SubscribeSync(b.nc.NewInbox())
	if err != nil {
		return nil, nil, err
	}
	// Flow control bounds what is under way.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, nil, errors.Join(err, sub.Unsubscribe())
	}
	cons, err := taken(ctx, func() (jetstream.PushConsumer, error) {
		return b.js.CreatePushConsumer(ctx, stream, jetstream.ConsumerConfig{
			DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
			AckPolicy: jetstream.AckNonePolicy, MaxDeliver: 1, MemoryStorage: true, Replicas: 1,
			DeliverSubject: sub.Subject, FlowControl: true, IdleHeartbeat: beat, InactiveThreshold: consumerAge,
		})
	})
	if err != nil {
		return nil, nil, errors.Join(err, sub.Unsubscribe())
	}
	return &pushed{nc: b.nc, sub: sub, window: windowBegin, heard: time.Now()}, func() {
		_ = sub.Unsubscribe() // the connection may have ended
		b.forget(ctx, stream, cons.CachedInfo())
	}, nil
}

// incoming starts a reader of a stream from a sequence on; stop ends it.
func (b *Bus) incoming(ctx context.Context, stream string, from uint64) (in incoming, stop func(), err error) {
	if b.guest {
		return b.deliver(ctx, stream, from)
	}
	it, _, stop, err := b.consume(ctx, stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy:    jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:      from,
		MaxResetAttempts: 1,
	})
	if err != nil {
		return nil, nil, err
	}
	return pulled{it}, stop, nil
}
