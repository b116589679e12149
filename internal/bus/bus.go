// Package bus is the only way to JetStream: facts are published durably, streams are
// followed without gaps, and a journal is appended to with a fence.
//
// Three promises are kept here, so that services need not think of them:
//
//   - A publish that returned is as durable as the site promises: logged, and synced
//     through the [Syncer].
//   - A reader is given every message of a stream exactly once and in order, or an error:
//     the sequence is checked, because JetStream skips what it cannot read.
//   - An append names the sequence that it expects to follow. The log itself refuses a
//     writer that was overtaken ([ErrOvertaken]); an append whose answer was lost is
//     looked up, never repeated blindly.
//
// A log at a server in this process that is appended to often gets a connection of its own,
// which the appending goroutine reads and writes by itself, see direct.go. It changes what
// an append costs and nothing of the above: whatever goes wrong there is looked up and tried
// again over the client library's connection.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tidemark/events"
	"tidemark/internal/keys"
)

// Relaxed is the durability, of those that the interface names, under which power loss may
// take what is called safe.
const Relaxed = "relaxed"

// Syncer makes what a stream has acknowledged survive power loss.
type Syncer interface {
	// Sync returns when every message acknowledged before the call is safe.
	Sync(ctx context.Context, stream string) error
	// Trimmed must follow each purge of a stream's head.
	Trimmed(ctx context.Context, stream string) error
}

// Unsynced is the Syncer of a log that is synced by itself (sync_always, a quorum), or
// that the operator wants unsynced.
type Unsynced struct{}

// Sync implements [Syncer].
func (Unsynced) Sync(ctx context.Context, _ string) error { return ctx.Err() }

// Trimmed implements [Syncer].
func (Unsynced) Trimmed(ctx context.Context, _ string) error { return ctx.Err() }

const (
	reconnectWait = 250 * time.Millisecond
	pingInterval  = 2 * time.Second // twice: a black hole is noticed within 6 s
	pingsLost     = 2
	requestTime   = 5 * time.Second
)

// Config says how to reach a site's NATS.
type Config struct {
	Name  string // of the connection, for people who look at the server
	URL   string // empty for an in-process server, which Options then names
	Creds string // path of a credentials file, or empty; see [keys.Credentials]
	CA    string // path of the authorities that a server's certificate is checked with; empty: the system's
	// Key is what to come in with at an in-process server; nil where that lets everybody in.
	Key    *keys.Key
	Syncer Syncer // nil is Unsynced
	// Guard returns an error while nothing more should be appended to any log, because
	// its disk is nearly full. Nil lets everything pass.
	Guard func() error
	Log   *slog.Logger
	// PullBytes is how much a reader of a stream asks for at a time; zero is 16 MiB.
	PullBytes int
	// Guest says that the server is another site's, which lets its guests pull nothing.
	Guest bool
	// Dial makes one more connection to an in-process server: a log that is appended to
	// often gets one of its own. Nil where there is no such server.
	Dial func() (net.Conn, error)
	// Options are added to the connection's.
	Options []nats.Option
}

// Bus is a connection to a site's NATS.
type Bus struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	syncer Syncer
	guard  func() error
	dial   func() (net.Conn, error)
	key    *keys.Key
	log    *slog.Logger
	// pullBytes is how much a reader asks for at a time: the server cuts a connection
	// that has more than 64 MiB outstanding.
	pullBytes int
	guest     bool
}

// Connect reaches the server; it returns an error if that fails at the first try, and
// reconnects by itself for ever afterwards.
func Connect(cfg Config) (*Bus, error) {
	opts, err := options(cfg)
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(cfg.URL, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", cfg.URL, err)
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(requestTime), jetstream.WithPublishAsyncTimeout(requestTime))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("set up JetStream: %w", err)
	}
	b := &Bus{nc: nc, js: takenBy{js}, syncer: cfg.Syncer, guard: cfg.Guard, dial: cfg.Dial, key: cfg.Key, log: cfg.Log, pullBytes: pullBytes, guest: cfg.Guest}
	if b.syncer == nil {
		b.syncer = Unsynced{}
	}
	if cfg.PullBytes > 0 {
		b.pullBytes = cfg.PullBytes
	}
	if b.guard == nil {
		b.guard = func() error { return nil }
	}
	return b, nil
}

func options(cfg Config) ([]nats.Option, error) {
	opts := append([]nats.Option{
		nats.Name(cfg.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectBufSize(-1), // nothing is sent again blindly
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(pingsLost),
		Reporting(cfg.Log),
	}, cfg.Options...)
	opts = append(opts, cfg.Key.Options()...)
	if cfg.Creds != "" {
		credentials, err := keys.Credentials(cfg.Creds)
		if err != nil {
			return nil, err
		}
		opts = append(opts, credentials...)
	}
	if cfg.CA != "" {
		trust, err := keys.Trust(cfg.CA)
		if err != nil {
			return nil, err
		}
		opts = append(opts, keys.Trusting(trust))
	}
	return opts, nil
}

// Reporting has a connection log what it is told besides answers.
func Reporting(log *slog.Logger) nats.Option {
	return nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) { report(log, sub, err) })
}

// report logs what a connection says besides answers. A publish that is not permitted is
// answered in no other way: who waits for it runs out of time.
func report(log *slog.Logger, sub *nats.Subscription, err error) {
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	if errors.Is(err, nats.ErrPermissionViolation) {
		log.Error("NATS refuses what this user may not do", "error", err, "subject", subject)
		return
	}
	log.Warn("nats connection", "error", err, "subject", subject)
}

// Conn returns the connection, for requests and for what is not stored.
func (b *Bus) Conn() *nats.Conn { return b.nc }

// Close ends the connection. What was published without an answer is undecided.
func (b *Bus) Close() { b.nc.Close() }

// EnsureStreams creates the streams that are missing.
func (b *Bus) EnsureStreams(ctx context.Context, streams []events.Stream) error {
	for _, s := range streams {
		if _, err := b.js.Stream(ctx, s.Name); err == nil {
			continue
		} else if !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("look for stream %s: %w", s.Name, err)
		}
		// One that another process has just made is left as that made it.
		if _, err := b.js.CreateStream(ctx, streamConfig(s)); err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return boundError("create", s, err)
		}
		if err := b.syncer.Sync(ctx, s.Name); err != nil {
			return fmt.Errorf("create stream %s: %w", s.Name, err)
		}
	}
	return nil
}

func streamConfig(s events.Stream) jetstream.StreamConfig {
	cfg := jetstream.StreamConfig{
		Name:        s.Name,
		Subjects:    s.Subjects,
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    s.MaxBytes,
		MaxMsgs:     -1,
		AllowDirect: true,
		DenyDelete:  true,
		Replicas:    1,
	}
	if s.MaxBytes == 0 {
		cfg.MaxBytes = -1
	}
	if s.LastPerSubject {
		cfg.MaxMsgsPerSubject = 1
	}
	if s.Rolling {
		cfg.Discard = jetstream.DiscardOld
	}
	return cfg
}

// Publish stores a fact and returns its sequence once it is durable. It waits at most
// [requestTime] for the answer of the stream. [ErrFull]: nothing was stored. After any other
// error, that of ctx too, the fact may be stored or not.
func (b *Bus) Publish(ctx context.Context, stream string, f events.Fact) (uint64, error) {
	return b.publish(ctx, stream, f)
}

// PublishAfter is Publish on the condition that the stream's last sequence is last, 0 for an
// empty one; [ErrOvertaken] says that it is not: someone else published meanwhile, and nothing
// was stored.
func (b *Bus) PublishAfter(ctx context.Context, stream string, last uint64, f events.Fact) (uint64, error) {
	return b.publish(ctx, stream, f, jetstream.WithExpectLastSequence(last))
}

// PublishOver is Publish on the condition that the last message of the fact's subject has
// the sequence last, 0 for none; [ErrOvertaken] says that it has another.
func (b *Bus) PublishOver(ctx context.Context, stream string, last uint64, f events.Fact) (uint64, error) {
	return b.publish(ctx, stream, f, jetstream.WithExpectLastSequencePerSubject(last))
}

// PublishWhile is Publish on the condition that the last message of a subject of the
// stream has the sequence last, 0 for none; [ErrOvertaken] says that it has another.
func (b *Bus) PublishWhile(ctx context.Context, stream, subject string, last uint64, f events.Fact) (uint64, error) {
	return b.publish(ctx, stream, f, jetstream.WithExpectLastSequenceForSubject(last, subject))
}

func (b *Bus) publish(ctx context.Context, stream string, f events.Fact, opts ...jetstream.PublishOpt) (uint64, error) {
	data, err := events.Marshal(f)
	if err != nil {
		return 0, err
	}
	opts = append(opts, jetstream.WithExpectStream(stream), jetstream.WithRetryAttempts(0))
	ack, err := b.js.Publish(ctx, f.Subject(), data, opts...)
	if err != nil {
		return 0, fmt.Errorf("publish %s: %w", f.Kind(), publishError(err))
	}
	if err := b.syncer.Sync(ctx, stream); err != nil {
		return 0, fmt.Errorf("publish %s: %w", f.Kind(), err)
	}
	return ack.Sequence, nil
}

// Send publishes a fact that is not stored: a heartbeat, a head. Nil does not mean that
// anybody heard it.
func (b *Bus) Send(f events.Fact) error {
	data, err := events.Marshal(f)
	if err != nil {
		return err
	}
	if err := b.nc.Publish(f.Subject(), data); err != nil {
		return fmt.Errorf("send %s: %w", f.Kind(), err)
	}
	return nil
}
