package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/natsd"
)

// The values of --durability.
const (
	durabilitySync    = "sync"
	durabilityQuorum  = "quorum"
	durabilityRelaxed = bus.Relaxed
)

const (
	// embedderTime is how long a Tidemark process that embeds the site's NATS may take
	// to answer: processes of a site are often started together.
	embedderTime    = 5 * time.Second
	monitorTime     = 5 * time.Second
	monitorBytesMax = 4 << 20
)

// syncMode is how the embedded server is run.
func (cfg *serveConfig) syncMode() natsd.SyncMode {
	if cfg.durability == durabilityRelaxed {
		return natsd.SyncNever
	}
	return natsd.SyncFiles
}

// outsideSyncer finds out how an outside server's log is made safe, and refuses a
// server that cannot be shown to keep what the durability promises.
func outsideSyncer(ctx context.Context, cfg serveConfig, b *bus.Bus) (bus.Syncer, error) {
	switch cfg.durability {
	case durabilityRelaxed:
		return bus.Unsynced{}, nil
	case durabilityQuorum:
		// Streams are made with one copy so far, whatever the server could do.
		return nil, fault.New(fault.NotReady, "durability quorum: streams are not replicated yet; use sync or relaxed")
	}
	if cfg.natsMonitor != "" {
		return bus.Unsynced{}, provenByMonitor(ctx, cfg.natsMonitor, b.Conn().ConnectedServerId())
	}
	info, err := askEmbedder(ctx, b, min(embedderTime, cfg.patience))
	switch {
	case err == nil && info.Sync == string(natsd.SyncNever):
		return nil, fault.New(fault.NotReady, "the NATS server at %s does not sync its log (it runs with --durability relaxed): run it with sync, or say --durability relaxed here too", redact(cfg.natsURL))
	case err == nil:
		return bus.NewRemoteSyncer(b.Conn()), nil
	case !api.Nobody(err):
		return nil, err
	}
	return nil, fault.New(fault.NotReady, "nothing shows that the NATS server at %s syncs its log: run it with `sync_interval: always` and name its monitoring with --nats-monitor http://HOST:8222, or say --durability relaxed", redact(cfg.natsURL))
}

// askEmbedder asks the Tidemark process that embeds the server, if there is one. One that is
// stopping is asked again: another may begin.
func askEmbedder(ctx context.Context, b *bus.Bus, patience time.Duration) (api.LogInfoReply, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var nobody error
	for {
		info, err := api.Call[api.LogInfoReply](ctx, b.Conn(), api.LogInfo, api.Nothing{})
		if ctx.Err() != nil && nobody != nil {
			return info, nobody // the time ran out while it was asked once more
		}
		again := api.Nobody(err) || fault.CodeOf(err) == fault.NotReady
		if !again || pause(ctx, retryWait) != nil {
			return info, err
		}
		nobody = err
	}
}

// varz is what we read of a NATS server's own account of itself.
type varz struct {
	ServerID  string `json:"server_id"`
	JetStream struct {
		Config struct {
			SyncAlways bool `json:"sync_always"`
		} `json:"config"`
	} `json:"jetstream"`
}

// provenByMonitor returns nil if the server that we are connected to says over its
// monitoring that it syncs every message.
func provenByMonitor(ctx context.Context, monitor, server string) error {
	v, err := askMonitor(ctx, monitor)
	switch {
	case err != nil:
		return fault.New(fault.NotReady, "NATS monitoring at %s: %w", monitor, err)
	case v.ServerID != server:
		return fault.New(fault.NotReady, "NATS monitoring at %s belongs to another server than --nats-url", monitor)
	case !v.JetStream.Config.SyncAlways:
		return fault.New(fault.NotReady, "the NATS server does not sync every message: set `sync_interval: always` in its jetstream block, or say --durability relaxed")
	}
	return nil
}

func askMonitor(ctx context.Context, monitor string) (varz, error) {
	var v varz
	ctx, cancel := context.WithTimeout(ctx, monitorTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(monitor, "/")+"/varz", nil)
	if err != nil {
		return v, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return v, err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode != http.StatusOK {
		return v, errors.New(resp.Status)
	}
	body, err := readLimited(resp.Body, monitorBytesMax)
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(body, &v)
}
