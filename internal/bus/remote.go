package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// RemoteSyncer is the [Syncer] for a server that another Tidemark process embeds: that
// process syncs the files on request.
//
// A server that was started anew may have lost what it had acknowledged and not synced;
// to sync it then would call safe what is gone. So the first sync of a journal after the
// server has changed fails with [ErrRestarted]: its user looks at the log before it goes
// on.
type RemoteSyncer struct {
	nc *nats.Conn

	mu sync.Mutex
	// server is the id of the server that each journal was last synced at: an id is new
	// at each start. The empty name is for journals that were never synced.
	server map[string]string
}

// ErrRestarted is returned by a sync after the server was started anew.
var ErrRestarted = errors.New("the NATS server was started anew since the last sync")

// NewRemoteSyncer returns a syncer that asks over nc.
func NewRemoteSyncer(nc *nats.Conn) *RemoteSyncer {
	return &RemoteSyncer{nc: nc, server: map[string]string{"": nc.ConnectedServerId()}}
}

// Bounds of a sync by another process.
const (
	remoteSyncTime = 30 * time.Second
	// remoteAnswerTime is how long one request is waited for: when the process died that
	// it was sent to, no answer ever comes.
	remoteAnswerTime = 10 * time.Second
)

// Sync implements [Syncer].
func (r *RemoteSyncer) Sync(ctx context.Context, stream string) error {
	if err := r.ask(ctx, api.LogSyncRequest{Stream: stream}); err != nil {
		return err
	}
	if events.IsJournal(stream) && r.restarted(stream) {
		return fmt.Errorf("sync %s: %w", stream, ErrRestarted)
	}
	return nil
}

// restarted reports whether the server is another than the one that the stream was last
// synced at.
func (r *RemoteSyncer) restarted(stream string) bool {
	now := r.nc.ConnectedServerId()
	r.mu.Lock()
	defer r.mu.Unlock()
	before, known := r.server[stream]
	if !known {
		before = r.server[""]
	}
	r.server[stream] = now
	return before != now
}

// Trimmed implements [Syncer].
func (r *RemoteSyncer) Trimmed(ctx context.Context, stream string) error {
	return r.ask(ctx, api.LogSyncRequest{Stream: stream, Trimmed: true})
}

// ask asks again while nobody answers, or who does is just stopping: a sync may be repeated.
// One that was tried and failed may not, and its error is returned.
func (r *RemoteSyncer) ask(ctx context.Context, request api.LogSyncRequest) error {
	ctx, cancel := context.WithTimeout(ctx, remoteSyncTime)
	defer cancel()
	for {
		err := r.askOnce(ctx, request)
		code := fault.CodeOf(err)
		if err == nil || ctx.Err() != nil || code != fault.Timeout && code != fault.NotReady {
			return err
		}
		if pause(ctx, reconnectWait) != nil {
			return err
		}
	}
}

func (r *RemoteSyncer) askOnce(ctx context.Context, request api.LogSyncRequest) error {
	ctx, cancel := context.WithTimeout(ctx, remoteAnswerTime)
	defer cancel()
	_, err := api.Call[api.Nothing](ctx, r.nc, api.LogSync, request)
	return err
}

// SetSyncer replaces the connection's syncer. It is called once, before the bus is used.
func (b *Bus) SetSyncer(s Syncer) { b.syncer = s }
