package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tidemark/events"
)

// pullBytes is how much a reader asks for at a time if nothing else is said. pullMessages bounds it for small messages; the
// client keeps a slot for each, for every reader, which the garbage collector looks at.
const (
	pullBytes    = 16 << 20
	pullMessages = 4096
)

// Message is one message of a stream. Data belongs to the receiver.
type Message struct {
	Sequence uint64
	Subject  string
	Data     []byte
}

// Follow gives f every message of a stream from sequence from on, in order and without
// gaps, and goes on with new ones until ctx ends or f returns an error, which it
// returns. A server that goes away is waited for. Where the stream begins later than from,
// or lacks a message, a [*GapError] is returned; [ErrNotFound] where it is gone.
func (b *Bus) Follow(ctx context.Context, stream string, from uint64, f func(Message) error) error {
	return b.follow(ctx, reading{stream: stream}, max(from, 1), f)
}

// reading is what a reader knows of its stream.
type reading struct {
	stream string
	held   uint64    // it holds all messages up to here: one of them that does not come is missing
	made   time.Time // when it was created; zero: not known
}

func (b *Bus) follow(ctx context.Context, r reading, from uint64, f func(Message) error) error {
	next := from
	for again := false; ; again = true {
		err := b.read(ctx, r, &next, again, f)
		var broken *brokenError
		switch {
		case errors.Is(err, errTaken):
			err = nil
		case errors.Is(err, errSilent):
			err = b.checkHeld(ctx, r.stream, next)
		case errors.As(err, &broken):
			err = b.awaitStream(ctx, r, broken.cause)
		default:
			return err
		}
		if err != nil {
			return err
		}
	}
}

// brokenError is a reader that was ended by the server or by the link, after it had begun.
type brokenError struct{ cause error }

func (e *brokenError) Error() string { return e.cause.Error() }

// brokenWait is how long a reader waits that was broken off, before it is begun again.
const brokenWait = 250 * time.Millisecond

// awaitStream returns nil as soon as a stream can be read again from which a reader was
// broken off. The client library would do so by itself, but for as long as it takes,
// whatever its caller wants meanwhile, and even where the stream was deleted. One that was
// deleted and created again is another stream: its sequences are others.
func (b *Bus) awaitStream(ctx context.Context, r reading, cause error) error {
	stream := r.stream
	for {
		if err := pause(ctx, brokenWait); err != nil {
			return err
		}
		err := b.sameStream(ctx, r)
		switch {
		case err == nil, errors.Is(err, ErrNotFound):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case b.nc.IsClosed():
			return fmt.Errorf("read stream %s: %w", stream, cause)
		}
		b.log.Debug("stream is waited for", "stream", stream, "cause", cause, "error", err)
	}
}

// sameStream looks whether the stream is there that is read: [ErrNotFound] if it was deleted,
// or deleted and created again.
func (b *Bus) sameStream(ctx context.Context, r reading) error {
	found, err := b.js.Stream(ctx, r.stream)
	switch {
	case err != nil:
		return fmt.Errorf("read stream %s: %w", r.stream, streamError(err))
	case !r.made.IsZero() && !found.CachedInfo().Created.Equal(r.made):
		return fmt.Errorf("read stream %s: it was deleted and created again: %w", r.stream, ErrNotFound)
	}
	return nil
}

// silence is how long a reader waits for a message that the stream is known to hold,
// before it looks for the message itself: JetStream passes over what it cannot read and
// says nothing when that was the last one. Where nothing is known to be missing, it is how
// often a reader looks whether the stream is still the one that it reads: the client
// library goes on with one of the same name, and waits for a sequence that may never come.
const silence = 2 * time.Second

var errSilent = errors.New("nothing came")

// checkHeld returns a [*GapError] if the stream has no message at a sequence.
func (b *Bus) checkHeld(ctx context.Context, stream string, seq uint64) error {
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", stream, streamError(err))
	}
	_, err = s.GetMsg(ctx, seq)
	switch {
	case err == nil:
		return nil
	case errors.Is(streamError(err), ErrNotFound):
		return &GapError{stream, seq, s.CachedInfo().State.LastSeq + 1}
	case ctx.Err() != nil:
		return ctx.Err()
	}
	b.log.Warn("message is looked for again", "stream", stream, "sequence", seq, "error", err)
	return nil
}

// read gives f the messages from *next on, and moves it. It returns errSilent when a
// message up to held does not come, errTaken when it is to be called again, and a *brokenError when the reader was broken off, or
// could not be begun again.
func (b *Bus) read(ctx context.Context, r reading, next *uint64, again bool, f func(Message) error) error {
	stream := r.stream
	in, stop, err := b.incoming(ctx, stream, *next)
	switch {
	case err == nil:
	case again && ctx.Err() == nil:
		return &brokenError{err}
	default:
		return fmt.Errorf("read stream %s: %w", stream, streamError(err))
	}
	defer stop()
	for ; ; *next++ {
		msg, err := b.nextMessage(ctx, in, r, *next)
		switch {
		case err == nil:
		case errors.Is(err, errSilent), errors.Is(err, errTaken):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			return &brokenError{err}
		}
		if msg.sequence != *next {
			return &GapError{stream, *next, msg.sequence}
		}
		if err := f(Message{*next, msg.subject, msg.data}); err != nil {
			return err
		}
	}
}

// consumerAge is how long the server keeps a reader's consumer that nobody deleted,
// because its process or its link died.
const consumerAge = 30 * time.Second

// consume starts a reader of what is pending now and of what comes; stop ends it and its
// consumer at the server.
func (b *Bus) consume(ctx context.Context, stream string, cfg jetstream.OrderedConsumerConfig) (it jetstream.MessagesContext, pending uint64, stop func(), err error) {
	cfg.InactiveThreshold = consumerAge
	cons, err := b.js.OrderedConsumer(ctx, stream, cfg)
	if err != nil {
		return nil, 0, nil, err
	}
	if info := cons.CachedInfo(); info != nil {
		pending = info.NumPending
	}
	if it, err = cons.Messages(jetstream.PullMaxMessagesWithBytesLimit(pullMessages, b.pullBytes)); err != nil {
		return nil, 0, nil, err
	}
	return it, pending, func() {
		it.Stop()
		b.forget(ctx, stream, cons.CachedInfo())
	}, nil
}

// forget deletes a reader's consumer. What cannot be deleted now ends by its age.
func (b *Bus) forget(ctx context.Context, stream string, info *jetstream.ConsumerInfo) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if info == nil || !b.nc.IsConnected() {
		return
	}
	if err := b.js.DeleteConsumer(ctx, stream, info.Name); err != nil {
		b.log.Debug("consumer not deleted", "stream", stream, "error", err)
	}
}

// nextMessage waits for the message with a sequence: until ctx ends, errSilent if it is known
// to be there and does not come, or [ErrNotFound] when the stream is not the one that is read
// any more.
func (b *Bus) nextMessage(ctx context.Context, in incoming, r reading, sequence uint64) (delivered, error) {
	held := sequence <= r.held
	for held || !r.made.IsZero() {
		bounded, cancel := context.WithTimeout(ctx, silence)
		msg, err := in.next(bounded)
		silent := err != nil && ctx.Err() == nil && bounded.Err() != nil
		cancel()
		switch {
		case !silent:
			return msg, err
		case held:
			return delivered{}, errSilent
		}
		// Whatever else keeps the question from being answered is the reader's to find out.
		if err := b.sameStream(ctx, r); errors.Is(err, ErrNotFound) {
			return delivered{}, err
		}
	}
	return in.next(ctx)
}

var errReadEnough = errors.New("read enough")

// ReadTo gives f every message from sequence from to sequence to, both included, which
// the stream holds: one that does not come is a gap.
func (b *Bus) ReadTo(ctx context.Context, stream string, from, to uint64, f func(Message) error) error {
	return b.readTo(ctx, reading{stream: stream, held: to}, from, f)
}

func (b *Bus) readTo(ctx context.Context, r reading, from uint64, f func(Message) error) error {
	if from > r.held {
		return nil
	}
	err := b.follow(ctx, r, max(from, 1), func(m Message) error {
		if err := f(m); err != nil {
			return err
		}
		if m.Sequence == r.held {
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
// ends, with the errors of [Bus.Follow]. caughtUp is called once, when f has seen all that the
// stream held at the start. A message that does not decode is passed over and logged: who
// may publish one must not be able to stop a service for good.
func (b *Bus) Fold(ctx context.Context, stream string, caughtUp func(), f func(seq uint64, fact events.Fact) error) error {
	state, err := b.State(ctx, stream)
	if err != nil {
		return err
	}
	if state.Last < state.First {
		caughtUp()
	}
	return b.follow(ctx, reading{stream: stream, held: state.Last}, state.First, func(m Message) error {
		fact, err := events.Unmarshal(m.Data)
		if err != nil {
			b.log.Error("message passed over: it cannot be read", "stream", stream, "sequence", m.Sequence, "error", err)
		} else if err := f(m.Sequence, fact); err != nil {
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
	Since           time.Time // when the first message was stored; zero when it is empty
}

// State asks for a stream's state.
func (b *Bus) State(ctx context.Context, stream string) (State, error) {
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return State{}, fmt.Errorf("look at stream %s: %w", stream, streamError(err))
	}
	return stateOf(s.CachedInfo()), nil
}

func stateOf(info *jetstream.StreamInfo) State {
	state := State{
		First: max(info.State.FirstSeq, 1), // a stream that never held anything says 0
		Last:  info.State.LastSeq, Bytes: info.State.Bytes, MaxBytes: uint64(max(info.Config.MaxBytes, 0)),
	}
	if state.First <= state.Last {
		state.Since = info.State.FirstTime
	}
	return state
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
	return taken(ctx, func() ([]string, error) {
		names := b.js.StreamNames(ctx)
		var all []string
		for name := range names.Name() {
			all = append(all, name)
		}
		return all, names.Err()
	})
}

func streamError(err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// Watch gives f the newest fact of each subject that matches filter, with its sequence,
// and then every new one, until ctx ends. caughtUp is called once, when f has seen all that was there at the
// start. It is for streams that keep the last message of a subject, whose sequences are
// not consecutive.
func (b *Bus) Watch(ctx context.Context, stream, filter string, caughtUp func(), f func(seq uint64, fact events.Fact) error) error {
	it, pending, stop, err := b.consume(ctx, stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy:  jetstream.DeliverLastPerSubjectPolicy,
		FilterSubjects: []string{filter},
	})
	if err != nil {
		return fmt.Errorf("watch %s: %w", filter, streamError(err))
	}
	defer stop()
	if pending == 0 {
		caughtUp()
	}
	for seen := uint64(1); ; seen++ {
		msg, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("watch %s: %w", filter, streamError(err))
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("watch %s: %w", filter, err)
		}
		fact, err := events.Unmarshal(msg.Data())
		if err != nil {
			b.log.Error("message passed over: it cannot be read", "stream", stream, "subject", msg.Subject(), "error", err)
		} else if err := f(meta.Sequence.Stream, fact); err != nil {
			return err
		}
		if seen == pending {
			caughtUp()
		}
	}
}
