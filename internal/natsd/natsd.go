// Package natsd runs a NATS server with JetStream inside the process, and makes what
// its streams have acknowledged survive power loss.
//
// # How the log is synced
//
// JetStream has no call that syncs a stream. Two ways are open, and both are here:
//
//   - [SyncFiles] (the default): the server runs with its ordinary lazy sync, under
//     which every acknowledged message has been written to a block file, and
//     [Server.Sync] fsyncs the block files that changed since the last call. A write
//     that nobody flushes pays no fsync; one fsync pays for all writes before it.
//   - [SyncAlways]: the server fsyncs each message before it acknowledges it.
//
// Measured with `tidemark bench append` on a disk with a cheap fsync, the first way
// appends unflushed batches about three times as fast and is equal for flushed ones; on
// a disk with an expensive fsync the difference grows. It rests on how this server
// version stores a stream, so [Start] proves it with a probe message and falls back to
// SyncAlways when the probe is not found in a block file. Trimming is part of the
// contract: the server may rewrite the oldest block without syncing it, see [Server.Trimmed].
// After a power cut a journal may have a hole where one unsynced block ends and the next
// begins; [Start] mends it, see torn.go.
package natsd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"tidemark/internal/access"
	"tidemark/internal/keys"
)

// SyncMode says how acknowledged messages become safe.
type SyncMode string

// The sync modes; see the package comment.
const (
	SyncFiles  SyncMode = "files"
	SyncAlways SyncMode = "always"
	// SyncNever leaves it to the operating system: for a durability of "relaxed".
	SyncNever SyncMode = "never"
)

// account is the account that everything of Tidemark lives in.
const account = "TIDEMARK"

const (
	lazySync    = 2 * time.Minute // the server's own timer; durability does not rest on it
	maxPayload  = 2 << 20         // bytes; twice events.MessageBytesMax
	maxPending  = 128 << 20       // bytes queued to one slow connection before it is cut
	maxConnects = 1024
	tlsTime     = 5 * time.Second // for a handshake
	// storeUnlimited lets the streams' byte limits add up to more than the disk: they
	// are bounds for each journal, not reservations. The space guard of the journal
	// service watches the disk itself.
	storeUnlimited = 1 << 60
)

// Config says what to run.
type Config struct {
	Name   string // of the server, unique among linked servers
	Dir    string // the folder that holds the streams
	Listen string // HOST:PORT; port 0 takes a free one
	Sync   SyncMode
	Log    *slog.Logger
	// Auth lets only Users in; else whoever reaches the address may do everything.
	Auth  bool
	Users []access.User
	// TLS is what the listener speaks; nil is plain text.
	TLS *tls.Config
	// Fsync syncs a file or folder by name; nil asks the operating system.
	Fsync func(name string) error
}

func (cfg Config) fsync() func(name string) error {
	if cfg.Fsync != nil {
		return cfg.Fsync
	}
	return syncFile
}

// Server is an embedded NATS server.
type Server struct {
	server *server.Server
	cfg    Config
	own    *keys.Key // of this process's connections
	door   *door
	sync   SyncMode
	files  *streamFiles
	space  *space
}

// Start runs a server and returns once it takes connections and its way of syncing
// was proven. An address that stays taken is a [syscall.EADDRINUSE].
func Start(ctx context.Context, cfg Config) (*Server, error) {
	return startWith(ctx, cfg, func(*Server) {})
}

// startWith is Start; prepare is called before the probe.
func startWith(ctx context.Context, cfg Config, prepare func(*Server)) (*Server, error) {
	if cfg.Sync != SyncFiles {
		return runUnnoted(ctx, cfg)
	}
	s, err := run(ctx, cfg)
	if err != nil {
		return nil, err
	}
	prepare(s)
	if err := s.probe(ctx); err != nil {
		if ctx.Err() != nil {
			s.Stop()
			return nil, ctx.Err()
		}
		cfg.Log.Warn("the store of this NATS server is not as expected; syncing every message instead", "error", err)
		s.Stop()
		cfg.Sync = SyncAlways
		return runUnnoted(ctx, cfg)
	}
	mended, err := mendTorn(ctx, s, cfg)
	if err != nil {
		s.Stop()
		return nil, err
	}
	return mended, nil
}

// runUnnoted runs a server in a mode that keeps no notes of what it has promised.
func runUnnoted(ctx context.Context, cfg Config) (*Server, error) {
	if err := dropPromises(cfg); err != nil {
		return nil, err
	}
	return run(ctx, cfg)
}

func run(ctx context.Context, cfg Config) (*Server, error) {
	own, err := keys.New()
	if err != nil {
		return nil, err
	}
	door := newDoor(cfg, own)
	srv, err := listen(ctx, cfg, own, door)
	if err != nil {
		return nil, err
	}
	store := filepath.Join(cfg.Dir, server.JetStreamStoreDir, account, "streams")
	files := newStreamFiles(store, filepath.Join(cfg.Dir, promisedFolder))
	files.fsync = cfg.fsync()
	return &Server{server: srv, cfg: cfg, own: own, door: door, sync: cfg.Sync, files: files, space: newSpace(cfg.Dir)}, nil
}

// options goes through the server's own configuration language, because accounts that
// are built by hand miss JetStream when the server restarts.
func options(cfg Config, own *keys.Key) (*server.Options, error) {
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("NATS address %q: %w", cfg.Listen, err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("NATS address %q: %w", cfg.Listen, err)
	}
	opts := &server.Options{}
	if err := opts.ProcessConfigString(accounts(cfg, own)); err != nil {
		return nil, fmt.Errorf("configure NATS server: %w", err)
	}
	opts.ServerName = cfg.Name
	opts.Host, opts.Port = host, int(number)
	if number == 0 {
		opts.Port = server.RANDOM_PORT
	}
	opts.JetStream, opts.StoreDir = true, cfg.Dir
	opts.JetStreamMaxStore, opts.JetStreamMaxMemory = storeUnlimited, 64<<20
	opts.MaxPayload, opts.MaxPending, opts.MaxConn = maxPayload, maxPending, maxConnects
	opts.SyncInterval, opts.SyncAlways = lazySync, cfg.Sync == SyncAlways
	opts.TLSConfig, opts.TLS, opts.TLSTimeout = cfg.TLS.Clone(), cfg.TLS != nil, tlsTime.Seconds()
	opts.AlwaysEnableNonce = cfg.Auth
	opts.NoSigs = true
	opts.NoLog = false
	return opts, nil
}

// SyncMode returns how the server makes messages safe.
func (s *Server) SyncMode() SyncMode { return s.sync }

// URL returns where clients reach the server.
func (s *Server) URL() string { return s.server.ClientURL() }

// InProcess returns an option that connects a client without a socket, as the process's own
// user, who may do everything.
func (s *Server) InProcess() nats.Option {
	return func(o *nats.Options) error {
		for _, option := range append(s.Key().Options(), nats.InProcessServer(s.server)) {
			if err := option(o); err != nil {
				return err
			}
		}
		return nil
	}
}

// Key returns the key of the process's own user; nil where everybody is let in.
func (s *Server) Key() *keys.Key {
	if !s.cfg.Auth {
		return nil
	}
	return s.own
}

// Dial connects somebody who speaks NATS' protocol without a socket, and comes in with Key.
func (s *Server) Dial() (net.Conn, error) { return s.server.InProcessConn() }

// Healthy returns nil while the server and its streams work: a stream that met an I/O
// error stays frozen until the server is restarted.
func (s *Server) Healthy() error {
	status := s.server.Healthz(&server.HealthzOptions{JSEnabledOnly: false})
	if status.StatusCode != 200 {
		return errors.New(status.Error)
	}
	return nil
}

// Stop shuts the server down and waits until its files are closed.
func (s *Server) Stop() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
}

// serverLog passes the server's log on. Its notices are details here.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Noticef(format string, v ...any) {
	l.log.Debug("nats server", "detail", fmt.Sprintf(format, v...))
}

func (l serverLog) Warnf(format string, v ...any) {
	l.log.Warn("nats server", "detail", fmt.Sprintf(format, v...))
}
func (l serverLog) Fatalf(format string, v ...any) { l.Errorf(format, v...) }
func (l serverLog) Errorf(format string, v ...any) {
	detail := fmt.Sprintf(format, v...)
	if strings.Contains(detail, "authentication error") || strings.Contains(detail, "TLS handshake error") {
		l.log.Warn("nats server refused a connection", "detail", detail) // a stranger is no failure of ours
		return
	}
	l.log.Error("nats server", "detail", detail)
}
func (l serverLog) Debugf(string, ...any) {}
func (l serverLog) Tracef(string, ...any) {}
