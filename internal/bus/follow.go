package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"tidemark/events"
)

// pullBytes is how much a reader asks for at a time: the server cuts a connection that
// has more than 64 MiB outstanding.
const pullBytes = 16 << 20

// Message is one message of a stream. Data belongs to the receiver.
type Message struct {
	Sequence uint64
	Subject  string
	Data     []byte
}

// Follow gives f every message of a stream from sequence from on, in order and without
// gaps, and goes on with new ones until ctx ends or f returns an error, which it
// returns. Where the stream now begins later than from, a [*GapError] is returned.
func (b *Bus) Follow(ctx context.Context, stream string, from uint64, f func(Message) error) error {
	from = max(from, 1)
	cons, err := b.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:   from,
	})
	if err != nil {
		return fmt.Errorf("read stream %s: %w", stream, streamError(err))
	}
	it, err := cons.Messages(jetstream.PullMaxBytes(pullBytes))
	if err != nil {
		return fmt.Errorf("read stream %s: %w", stream, streamError(err))
	}
	defer it.Stop()
	for next := from; ; next++ {
		msg, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("read stream %s: %w", stream, streamError(err))
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read stream %s: %w", stream, err)
		}
		if meta.Sequence.Stream != next {
			return &GapError{stream, next, meta.Sequence.Stream}
		}
		if err := f(Message{next, msg.Subject(), msg.Data()}); err != nil {
			return err
		}
	}
}

var errReadEnough = errors.New("read enough")

// ReadTo gives f every message from sequence from to sequence to, both included.
func (b *Bus) ReadTo(ctx context.Context, stream string, from, to uint64, f func(Message) error) error {
	if from > to {
		return nil
	}
	err := b.Follow(ctx, stream, from, func(m Message) error {
		if err := f(m); err != nil {
			return err
		}
		if m.Sequence == to {
			return errReadEnough
		}
		return nil
	})
	if errors.Is(err, errReadEnough) {
		return nil
	}
	return err
}

// Fold gives f every fact of a stream from its first message on and goes on until ctx
// ends. caughtUp is called once, when f has seen all that the stream held at the start.
// A message that does not decode is a fault of the stream, and ends the fold.
func (b *Bus) Fold(ctx context.Context, stream string, caughtUp func(), f func(seq uint64, fact events.Fact) error) error {
	state, err := b.State(ctx, stream)
	if err != nil {
		return err
	}
	if state.Last < state.First || state.Last == 0 {
		caughtUp()
	}
	return b.Follow(ctx, stream, state.First, func(m Message) error {
		fact, err := events.Unmarshal(m.Data)
		if err != nil {
			return fmt.Errorf("message %d of stream %s: %w", m.Sequence, stream, err)
		}
		if err := f(m.Sequence, fact); err != nil {
			return err
		}
		if m.Sequence == state.Last {
			caughtUp()
		}
		return nil
	})
}

// State is what a stream holds.
type State struct {
	First, Last     uint64 // sequences; Last < First when it is empty
	Bytes, MaxBytes uint64
}

// State asks for a stream's state.
func (b *Bus) State(ctx context.Context, stream string) (State, error) {
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return State{}, fmt.Errorf("look at stream %s: %w", stream, streamError(err))
	}
	info := s.CachedInfo()
	return State{info.State.FirstSeq, info.State.LastSeq, info.State.Bytes, uint64(max(info.Config.MaxBytes, 0))}, nil
}

// Last returns the last message of a subject, [ErrNotFound] if there is none.
func (b *Bus) Last(ctx context.Context, stream, subject string) (Message, error) {
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return Message{}, fmt.Errorf("look at stream %s: %w", stream, streamError(err))
	}
	m, err := s.GetLastMsgForSubject(ctx, subject)
	if err != nil {
		return Message{}, fmt.Errorf("last message of %s: %w", subject, streamError(err))
	}
	return Message{m.Sequence, m.Subject, m.Data}, nil
}

// Streams returns the names of all streams, in no order.
func (b *Bus) Streams(ctx context.Context) ([]string, error) {
	names := b.js.StreamNames(ctx)
	var all []string
	for name := range names.Name() {
		all = append(all, name)
	}
	return all, names.Err()
}

func streamError(err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// Watch gives f the newest fact of each subject that matches filter, and then every new
// one, until ctx ends. It is for streams that keep the last message of a subject, whose
// sequences are not consecutive.
func (b *Bus) Watch(ctx context.Context, stream, filter string, f func(events.Fact) error) error {
	cons, err := b.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy:  jetstream.DeliverLastPerSubjectPolicy,
		FilterSubjects: []string{filter},
	})
	if err != nil {
		return fmt.Errorf("watch %s: %w", filter, streamError(err))
	}
	it, err := cons.Messages(jetstream.PullMaxBytes(pullBytes))
	if err != nil {
		return fmt.Errorf("watch %s: %w", filter, streamError(err))
	}
	defer it.Stop()
	for {
		msg, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("watch %s: %w", filter, streamError(err))
		}
		fact, err := events.Unmarshal(msg.Data())
		if err != nil {
			return fmt.Errorf("watch %s: %w", filter, err)
		}
		if err := f(fact); err != nil {
			return err
		}
	}
}
