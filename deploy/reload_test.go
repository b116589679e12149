package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/events"
	"tidemark/internal/access"
	"tidemark/internal/bus"
	"tidemark/internal/keys"
	"tidemark/internal/sitetest"
)

// TestUsersChangeUnderWork: while the server reads its users again and again, whoever stays
// notices nothing. Every fourth request failed with "no responders" before package bus sent
// again what nobody took: a server that reads its accounts takes JetStream away for a moment.
// No stream is made meanwhile, and under the race detector no single message asked for: there the
// server (2.15.2) looks at its own options without their lock, which is reported here, in one process.
func TestUsersChangeUnderWork(t *testing.T) {
	d := runConfiguration(t, roomy)
	b, err := bus.Connect(bus.Config{Name: "test", URL: d.server.ClientURL(), Key: d.keys[access.Node], Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	work := func(ctx context.Context, n int) error {
		if err := b.EnsureStreams(ctx, events.SiteStreams()); err != nil {
			return err
		}
		pool := &events.PoolCreated{Pool: fmt.Sprintf("p%d", n+1)}
		if _, err := b.Publish(ctx, events.StreamPools, pool); err != nil {
			return err
		}
		l, err := b.OpenLog(ctx, events.Stream{Name: "JOURNAL_x", Subjects: []string{"tidemark.journal.east.x.>"}, MaxBytes: 64 << 20})
		if err != nil {
			return err
		}
		state, err := l.State(ctx)
		if err != nil {
			return err
		}
		seq, err := l.Append(ctx, "tidemark.journal.east.x.e", []byte("some"), state.Last)
		if err != nil {
			return err
		}
		if err := l.ReadTo(ctx, seq, seq, func(bus.Message) error { return nil }); err != nil {
			return err
		}
		if err := l.Trim(ctx, 1); err != nil || sitetest.RaceDetector {
			return err
		}
		_, get := l.Get(ctx, seq)
		_, last := b.Last(ctx, events.StreamPools, pool.Subject())
		return errors.Join(get, last)
	}
	if err := work(ctx, -1); err != nil { // the streams are made
		t.Fatal(err)
	}
	changed := make(chan error, 1)
	go func() { changed <- d.changeUsers(ctx) }()
	const rounds = 100
	for n := range rounds {
		if err := work(ctx, n); err != nil {
			t.Fatalf("round %d: %v", n, err)
		}
	}
	cancel()
	if err := <-changed; err != nil {
		t.Fatal(err)
	}
}

// changeUsers lets a guest in and another one out, until ctx ends.
func (d deployed) changeUsers(ctx context.Context) error {
	file := filepath.Join(d.dir, "users.conf")
	own, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		if ctx.Err() != nil {
			if n < 2 {
				return errors.New("the users did not change")
			}
			return nil
		}
		guest, err := keys.New()
		if err != nil {
			return err
		}
		more := strings.TrimPrefix(access.Configuration(access.Joining("east", "vms").User(guest.Public())), "[\n")
		text := strings.TrimSuffix(string(own), "]\n") + more
		if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), d.server.Reload()); err != nil {
			return err
		}
	}
}
