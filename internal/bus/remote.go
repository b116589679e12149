package bus

import (
	"context"

	"github.com/nats-io/nats.go"

	"tidemark/internal/api"
)

// RemoteSyncer is the [Syncer] for a server that another Tidemark process embeds: that
// process syncs the files on request.
type RemoteSyncer struct{ nc *nats.Conn }

// NewRemoteSyncer returns a syncer that asks over nc.
func NewRemoteSyncer(nc *nats.Conn) RemoteSyncer { return RemoteSyncer{nc} }

// Sync implements [Syncer].
func (r RemoteSyncer) Sync(ctx context.Context, stream string) error {
	_, err := api.Call[api.Nothing](ctx, r.nc, api.LogSync, api.LogSyncRequest{Stream: stream})
	return err
}

// Trimmed implements [Syncer].
func (r RemoteSyncer) Trimmed(ctx context.Context, stream string) error {
	_, err := api.Call[api.Nothing](ctx, r.nc, api.LogSync, api.LogSyncRequest{Stream: stream, Trimmed: true})
	return err
}

// SetSyncer replaces the connection's syncer. It is called once, before the bus is used.
func (b *Bus) SetSyncer(s Syncer) { b.syncer = s }
