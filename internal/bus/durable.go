package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Durable is a place in a stream that the server keeps: whoever opens it by the same name
// goes on where the last one stopped, and several share what comes.
type Durable struct {
	consumer jetstream.Consumer
	it       jetstream.MessagesContext
	stream   string
}

// DurableConfig says what a place in a stream is.
type DurableConfig struct {
	Name   string
	Filter string // subject; empty: all
	// FromStart makes a place that there is none of at the stream's first message, not
	// behind its last.
	FromStart bool
	// Wait is how long whoever was given a message may be silent about it before somebody
	// is given it again.
	Wait time.Duration
	// Idle is how long the server keeps a place that nobody asks for.
	Idle time.Duration
}

// Delivery is a message that was given out and must be answered for.
type Delivery struct {
	Message
	Tries  uint64    // how often it was given out, this one included
	Stored time.Time // when the stream took it, by the server's clock
	msg    jetstream.Msg
}

// OpenDurable opens a place, and makes it if there is none. One message is out at a time:
// the next one comes when that is done.
func (b *Bus) OpenDurable(ctx context.Context, stream string, cfg DurableConfig) (*Durable, error) {
	from := jetstream.DeliverNewPolicy
	if cfg.FromStart {
		from = jetstream.DeliverAllPolicy
	}
	consumer, err := b.js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable:           cfg.Name,
		FilterSubject:     cfg.Filter,
		DeliverPolicy:     from,
		AckPolicy:         jetstream.AckExplicitPolicy,
		AckWait:           cfg.Wait,
		MaxAckPending:     1,
		MaxDeliver:        -1,
		InactiveThreshold: cfg.Idle,
	})
	if err != nil {
		return nil, fmt.Errorf("open place %s in stream %s: %w", cfg.Name, stream, streamError(err))
	}
	it, err := consumer.Messages(jetstream.PullMaxMessages(1))
	if err != nil {
		return nil, fmt.Errorf("read at place %s of stream %s: %w", cfg.Name, stream, err)
	}
	return &Durable{consumer, it, stream}, nil
}

// Next waits for the next message until ctx ends.
func (d *Durable) Next(ctx context.Context) (Delivery, error) {
	msg, err := d.it.Next(jetstream.NextContext(ctx))
	if err != nil {
		return Delivery{}, fmt.Errorf("read stream %s: %w", d.stream, streamError(err))
	}
	meta, err := msg.Metadata()
	if err != nil {
		return Delivery{}, fmt.Errorf("read stream %s: %w", d.stream, err)
	}
	return Delivery{
		Message: Message{meta.Sequence.Stream, msg.Subject(), msg.Data()},
		Tries:   meta.NumDelivered, Stored: meta.Timestamp, msg: msg,
	}, nil
}

// Behind returns how many messages are not done.
func (d *Durable) Behind(ctx context.Context) (uint64, error) {
	info, err := d.consumer.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("look at a place in stream %s: %w", d.stream, streamError(err))
	}
	return info.NumPending + uint64(max(info.NumAckPending, 0)), nil
}

// Stop ends reading. The place stays.
func (d *Durable) Stop() { d.it.Stop() }

// Done says that the message is dealt with for good, and returns once the server knows.
func (m *Delivery) Done(ctx context.Context) error {
	if err := m.msg.DoubleAck(ctx); err != nil {
		return fmt.Errorf("message %d is done: %w", m.Sequence, err)
	}
	return nil
}

// Again gives the message back, to be given out again after a pause.
func (m *Delivery) Again(pause time.Duration) error {
	if err := m.msg.NakWithDelay(pause); err != nil {
		return fmt.Errorf("give message %d back: %w", m.Sequence, err)
	}
	return nil
}

// Working says that the message is being dealt with: nobody else is given it for another
// [DurableConfig] Wait.
func (m *Delivery) Working() error {
	if err := m.msg.InProgress(); err != nil {
		return fmt.Errorf("keep message %d: %w", m.Sequence, err)
	}
	return nil
}
