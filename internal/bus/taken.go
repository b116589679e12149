package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// takenTime is how long a request to JetStream is sent again while nobody takes it, takenWait
// what is waited in between. A server whose users change takes the account's way to
// JetStream away for a moment, and gives it back.
const (
	takenTime = 2 * time.Second
	takenWait = 10 * time.Millisecond
)

// taken asks until somebody takes the request: one that nobody took changed nothing, and may be
// sent again.
func taken[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	deadline := time.Now().Add(takenTime)
	for {
		answer, err := ask()
		if !errors.Is(err, nats.ErrNoResponders) || time.Now().After(deadline) || pause(ctx, takenWait) != nil {
			return answer, err
		}
	}
}

// takenBy is JetStream of which each request that a bus makes is sent until somebody takes it.
// What a stream is published to goes another way, and needs none of it.
type takenBy struct{ jetstream.JetStream }

// Stream implements [jetstream.JetStream].
func (t takenBy) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := taken(ctx, func() (jetstream.Stream, error) { return t.JetStream.Stream(ctx, name) })
	if err != nil {
		return nil, err
	}
	// Messages are asked for by the API: a direct get is answered with an empty message
	// where there is none, and may be granted to nobody (package access).
	s.CachedInfo().Config.AllowDirect = false
	return takenStream{s}, nil
}

// CreateStream implements [jetstream.JetStream].
func (t takenBy) CreateStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	return taken(ctx, func() (jetstream.Stream, error) { return t.JetStream.CreateStream(ctx, cfg) })
}

// UpdateStream implements [jetstream.JetStream].
func (t takenBy) UpdateStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := taken(ctx, func() (jetstream.Stream, error) { return t.JetStream.UpdateStream(ctx, cfg) })
	if err != nil {
		return nil, err
	}
	return takenStream{s}, nil
}

// DeleteStream implements [jetstream.JetStream].
func (t takenBy) DeleteStream(ctx context.Context, name string) error {
	_, err := taken(ctx, func() (struct{}, error) { return struct{}{}, t.JetStream.DeleteStream(ctx, name) })
	return err
}

// OrderedConsumer implements [jetstream.JetStream].
func (t takenBy) OrderedConsumer(ctx context.Context, stream string, cfg jetstream.OrderedConsumerConfig) (jetstream.Consumer, error) {
	return taken(ctx, func() (jetstream.Consumer, error) { return t.JetStream.OrderedConsumer(ctx, stream, cfg) })
}

// CreateOrUpdateConsumer implements [jetstream.JetStream].
func (t takenBy) CreateOrUpdateConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	return taken(ctx, func() (jetstream.Consumer, error) {
		return t.JetStream.CreateOrUpdateConsumer(ctx, stream, cfg)
	})
}

// takenStream is a stream of which each request that a bus makes is sent until somebody takes it.
type takenStream struct{ jetstream.Stream }

// GetMsg implements [jetstream.Stream].
func (t takenStream) GetMsg(ctx context.Context, seq uint64, opts ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	return taken(ctx, func() (*jetstream.RawStreamMsg, error) { return t.Stream.GetMsg(ctx, seq, opts...) })
}

// GetLastMsgForSubject implements [jetstream.Stream].
func (t takenStream) GetLastMsgForSubject(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	return taken(ctx, func() (*jetstream.RawStreamMsg, error) { return t.Stream.GetLastMsgForSubject(ctx, subject) })
}

// Purge implements [jetstream.Stream].
func (t takenStream) Purge(ctx context.Context, opts ...jetstream.StreamPurgeOpt) error {
	_, err := taken(ctx, func() (struct{}, error) { return struct{}{}, t.Stream.Purge(ctx, opts...) })
	return err
}
