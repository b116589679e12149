package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tidemark/events"
)

const (
	// appendTime bounds the wait for one acknowledgement before the log is asked
	// whether it holds the message.
	appendTime = 5 * time.Second
	lookTime   = 5 * time.Second
)

// Log is one journal stream, written by one writer at a time.
type Log struct {
	bus    *Bus
	name   string
	stream jetstream.Stream
	made   time.Time // when the stream was created that was opened
	direct direct
	// held and limit are the stream's bytes and their limit as last known: asked for, and
	// counted on with what was appended since.
	held, limit atomic.Uint64
	since       atomic.Int64 // when its first message was stored, in Unix nanoseconds; zero: it is empty
}

// storedBytes is about what the server's file store adds to a message: its own record, and the
// headers that an append carries without the stream's name.
const storedBytes = 30 + 74

// Size returns how many bytes the stream holds and may hold, as last known: it asks nobody,
// and is off by little more than what others have appended since [Log.State]. Zero is no limit.
func (l *Log) Size() (bytes, limit uint64) { return l.held.Load(), l.limit.Load() }

// Since returns when the first message that the stream holds was stored, as last known; zero
// for none.
func (l *Log) Since() events.Instant { return events.Instant(l.since.Load()) }

// note remembers the state that the stream was in a moment ago.
func (l *Log) note(s State) {
	l.held.Store(s.Bytes)
	l.limit.Store(s.MaxBytes)
	l.since.Store(0)
	if !s.Since.IsZero() {
		l.since.Store(s.Since.UnixNano())
	}
}

// OpenLog opens a journal stream, and creates it if it is missing. An existing one gets
// the byte limit of s.
func (b *Bus) OpenLog(ctx context.Context, s events.Stream) (*Log, error) {
	if err := b.EnsureStreams(ctx, []events.Stream{s}); err != nil {
		return nil, err
	}
	l, err := b.ExistingLog(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	return l, l.bound(ctx, s)
}

// bound gives the stream the byte limit that it should have. Nothing is dropped when it
// holds more already: it is full until it was trimmed.
func (l *Log) bound(ctx context.Context, s events.Stream) error {
	want, have := streamConfig(s).MaxBytes, l.stream.CachedInfo().Config
	if have.MaxBytes == want {
		return nil
	}
	have.MaxBytes, have.AllowDirect = want, streamConfig(s).AllowDirect
	stream, err := l.bus.js.UpdateStream(ctx, have)
	if err != nil {
		return boundError("set the limit of", s, err)
	}
	l.stream = stream
	l.limit.Store(uint64(max(want, 0)))
	return nil
}

// ExistingLog opens a journal stream; [ErrNotFound] if it is missing.
func (b *Bus) ExistingLog(ctx context.Context, name string) (*Log, error) {
	stream, err := b.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", name, streamError(err))
	}
	info := stream.CachedInfo()
	l := &Log{
		bus: b, name: name, stream: stream, made: info.Created,
		direct: direct{dial: b.dial, key: b.key, newInbox: b.nc.NewInbox, stream: name},
	}
	l.note(stateOf(info))
	return l, nil
}

// Opened returns when the stream was created that was opened, and the sequence of the last
// message that it held then.
func (l *Log) Opened() (made time.Time, last uint64) {
	return l.made, stateOf(l.stream.CachedInfo()).Last
}

// RemoveLog deletes a journal stream; a missing one is no error.
func (b *Bus) RemoveLog(ctx context.Context, name string) error {
	err := b.js.DeleteStream(ctx, name)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("delete stream %s: %w", name, err)
	}
	return nil
}

// Name returns the stream's name.
func (l *Log) Name() string { return l.name }

// Room returns [ErrFull] while nothing should be appended because the disk is nearly
// full. Writers ask before each append of data; what is needed to let go of data is
// appended all the same.
func (l *Log) Room() error {
	if err := l.bus.guard(); err != nil {
		return fmt.Errorf("append to %s: %w: %w", l.name, ErrFull, err)
	}
	return nil
}

// Append stores a message behind the message with sequence last, and returns its own
// sequence once it is logged: it survives the death of this process, and is safe after
// the next Sync.
//
// [ErrOvertaken]: the log goes on otherwise; this writer is fenced. [ErrRolledBack]: the
// log ends before last: it lost what it had acknowledged. [ErrFull]: nothing
// was stored, the same append may be tried again. [ErrUndecided]: ctx ended before the
// log could be asked. When an answer is lost the log itself is looked at, so a message
// is never stored twice and never given up while it is there.
func (l *Log) Append(ctx context.Context, subject string, data []byte, last uint64) (uint64, error) {
	for try := 0; ; try++ {
		err := l.appendOnce(ctx, subject, data, last)
		switch {
		case err == nil:
			l.held.Add(uint64(storedBytes + len(l.name) + len(subject) + len(data)))
			if l.since.Load() == 0 {
				l.since.CompareAndSwap(0, time.Now().UnixNano())
			}
			return last + 1, nil
		case errors.Is(err, nats.ErrMaxPayload), try == 0 && errors.Is(err, ErrFull):
			return 0, fmt.Errorf("append to %s: %w", l.name, err)
		}
		stored, lookErr := l.holds(ctx, last+1, data)
		switch {
		case stored:
			return last + 1, nil
		case lookErr != nil && ctx.Err() != nil:
			return 0, fmt.Errorf("append to %s: %w: %w", l.name, ErrUndecided, err)
		case errors.Is(err, ErrOvertaken) && lookErr == nil:
			return 0, fmt.Errorf("append to %s behind message %d: %w", l.name, last, l.whyOvertaken(ctx, last))
		case errors.Is(lookErr, ErrOvertaken), errors.Is(err, ErrOvertaken):
			return 0, fmt.Errorf("append to %s: %w", l.name, ErrOvertaken)
		case lookErr == nil && errors.Is(err, ErrFull):
			return 0, fmt.Errorf("append to %s: %w", l.name, err)
		}
		if err := l.exists(ctx); err != nil {
			return 0, fmt.Errorf("append to %s: %w", l.name, err)
		}
		l.bus.log.Warn("append is tried again", "stream", l.name, "sequence", last+1, "error", err)
		if err := pause(ctx, reconnectWait); err != nil {
			return 0, fmt.Errorf("append to %s: %w: %w", l.name, ErrUndecided, err)
		}
	}
}

// whyOvertaken tells a log that ends before the expected message, because it lost what it
// had acknowledged, from one that another writer went on with.
func (l *Log) whyOvertaken(ctx context.Context, last uint64) error {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	if state, err := l.State(ctx); err == nil && state.Last < last {
		return ErrRolledBack
	}
	return ErrOvertaken
}

func (l *Log) appendOnce(ctx context.Context, subject string, data []byte, last uint64) error {
	if !l.bus.nc.IsClosed() && l.direct.suits(len(data)) {
		return publishError(l.direct.append(ctx, subject, data, last))
	}
	ctx, cancel := context.WithTimeout(ctx, appendTime)
	defer cancel()
	_, err := l.bus.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data},
		jetstream.WithExpectStream(l.name),
		jetstream.WithExpectLastSequence(last),
		jetstream.WithRetryAttempts(0))
	if err != nil {
		return publishError(err)
	}
	return nil
}

// exists returns [ErrNotFound] if the stream was deleted, and nil while that is unknown.
func (l *Log) exists(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	if _, err := l.State(ctx); errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

// holds reports whether the message at a sequence is data: [ErrOvertaken] if it is
// another. On a replicated stream a follower may answer, and late; a message that it does
// not have yet is taken for one that is not stored, and the next try is refused.
func (l *Log) holds(ctx context.Context, seq uint64, data []byte) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	m, err := l.stream.GetMsg(ctx, seq)
	switch {
	case err != nil && errors.Is(streamError(err), ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case bytes.Equal(m.Data, data):
		return true, nil
	}
	return false, ErrOvertaken
}

// Get returns the message at a sequence, or [ErrNotFound].
func (l *Log) Get(ctx context.Context, seq uint64) (Message, error) {
	m, err := l.stream.GetMsg(ctx, seq)
	if err != nil {
		return Message{}, fmt.Errorf("message %d of %s: %w", seq, l.name, streamError(err))
	}
	return Message{m.Sequence, m.Subject, m.Data}, nil
}

// State asks for the stream's state.
func (l *Log) State(ctx context.Context) (State, error) {
	state, err := l.bus.State(ctx, l.name)
	if err == nil {
		l.note(state)
	}
	return state, err
}

// Follow is [Bus.Follow] on the log.
func (l *Log) Follow(ctx context.Context, from uint64, f func(Message) error) error {
	return l.bus.follow(ctx, reading{stream: l.name, made: l.made}, max(from, 1), f)
}

// ReadTo is [Bus.ReadTo] on the log.
func (l *Log) ReadTo(ctx context.Context, from, to uint64, f func(Message) error) error {
	return l.bus.readTo(ctx, reading{stream: l.name, held: to, made: l.made}, from, f)
}

// Sync returns when every message acknowledged before the call is safe.
func (l *Log) Sync(ctx context.Context) error { return l.bus.syncer.Sync(ctx, l.name) }

// Trim drops all messages below a sequence. The caller has checked that no consumer
// needs them, and that what it drops lies far enough behind its own checkpoint.
func (l *Log) Trim(ctx context.Context, below uint64) error {
	if err := l.stream.Purge(ctx, jetstream.WithPurgeSequence(below)); err != nil {
		return fmt.Errorf("trim %s: %w", l.name, err)
	}
	if err := l.bus.syncer.Trimmed(ctx, l.name); err != nil {
		return err
	}
	_, err := l.State(ctx) // how much is left
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
