package bus

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// RemoteSyncer is the [Syncer] for a server that another Tidemark process embeds: that
// process syncs the files on request.
type RemoteSyncer struct{ nc *nats.Conn }

// NewRemoteSyncer returns a syncer that asks over nc.
func NewRemoteSyncer(nc *nats.Conn) RemoteSyncer { return RemoteSyncer{nc} }

// Bounds of a sync by another process.
const (
	remoteSyncTime = 30 * time.Second
	// remoteAnswerTime is how long one request is waited for: when the process died that
	// it was sent to, no answer ever comes.
	remoteAnswerTime = 10 * time.Second
)

// Sync implements [Syncer].
func (r RemoteSyncer) Sync(ctx context.Context, stream string) error {
	return r.ask(ctx, api.LogSyncRequest{Stream: stream})
}

// Trimmed implements [Syncer].
func (r RemoteSyncer) Trimmed(ctx context.Context, stream string) error {
	return r.ask(ctx, api.LogSyncRequest{Stream: stream, Trimmed: true})
}

// ask asks again while nobody answers: a sync may be repeated. One that was tried and
// failed may not, and its error is returned.
func (r RemoteSyncer) ask(ctx context.Context, request api.LogSyncRequest) error {
	ctx, cancel := context.WithTimeout(ctx, remoteSyncTime)
	defer cancel()
	for {
		err := r.askOnce(ctx, request)
		if err == nil || ctx.Err() != nil || fault.CodeOf(err) != fault.Timeout {
			return err
		}
		if pause(ctx, reconnectWait) != nil {
			return err
		}
	}
}

func (r RemoteSyncer) askOnce(ctx context.Context, request api.LogSyncRequest) error {
	ctx, cancel := context.WithTimeout(ctx, remoteAnswerTime)
	defer cancel()
	_, err := api.Call[api.Nothing](ctx, r.nc, api.LogSync, request)
	return err
}

// SetSyncer replaces the connection's syncer. It is called once, before the bus is used.
func (b *Bus) SetSyncer(s Syncer) { b.syncer = s }
