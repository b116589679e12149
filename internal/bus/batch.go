package bus

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"tidemark/events"
)

// PublishAll stores facts one behind the other, the first on the condition that the stream's
// last sequence is last, and returns how many of them are durable: always the first ones.
// Where that are not all, the error is that of the first one that is not, as PublishAfter
// would return it. They are under way at the same time and synced once.
func (b *Bus) PublishAll(ctx context.Context, stream string, last uint64, facts []events.Fact) (stored int, err error) {
	answers, err := b.send(stream, last, facts)
	for i, answer := range answers {
		if refused := settled(ctx, answer); refused != nil {
			err = fmt.Errorf("publish %s: %w", facts[i].Kind(), publishError(refused))
			break
		}
		stored++
	}
	if stored == 0 {
		return 0, err
	}
	if syncErr := b.syncer.Sync(ctx, stream); syncErr != nil {
		return 0, fmt.Errorf("publish %s: %w", facts[0].Kind(), syncErr)
	}
	return stored, err
}

// send sends facts without waiting for the answers. The error is of the first that was not sent.
//
// That each names the sequence which it expects to follow is not enough: where another writer
// is faster by one message, the second fact finds the sequence that it expects. So each has an
// id, and names that of the one before it, which nobody else's message has.
func (b *Bus) send(stream string, last uint64, facts []events.Fact) ([]jetstream.PubAckFuture, error) {
	answers := make([]jetstream.PubAckFuture, 0, len(facts))
	before, batch := "", nuid.Next()
	for i, f := range facts {
		data, err := events.Marshal(f)
		if err != nil {
			return answers, err
		}
		id := fmt.Sprintf("%s.%d", batch, i)
		opts := []jetstream.PublishOpt{
			jetstream.WithExpectStream(stream), jetstream.WithExpectLastSequence(last + uint64(i)),
			jetstream.WithMsgID(id), jetstream.WithRetryAttempts(0),
		}
		if before != "" {
			opts = append(opts, jetstream.WithExpectLastMsgID(before))
		}
		before = id
		answer, err := b.js.PublishMsgAsync(&nats.Msg{Subject: f.Subject(), Data: data}, opts...)
		if err != nil {
			return answers, fmt.Errorf("publish %s: %w", f.Kind(), err)
		}
		answers = append(answers, answer)
	}
	return answers, nil
}

// settled waits for the answer to one message, at most [requestTime].
func settled(ctx context.Context, answer jetstream.PubAckFuture) error {
	select {
	case <-answer.Ok():
		return nil
	case err := <-answer.Err():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
