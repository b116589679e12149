// Package sitetest is what the tests of several packages share: a site in the test's own
// process (a NATS server on disk, its streams, a node), a link that fails on demand, waits
// with a deadline, and a look at the streams for two that held one directory at a time.
//
// Nothing here sleeps. A test that waits, waits for something that can be seen, for at most
// [Patience]; how long something took is judged by [Within] and [Prompt], which know that the
// machine may be busy.
package sitetest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/natsd"
	"tidemark/internal/site"
)

// Site is a site in the test's process.
type Site struct {
	Bus    *bus.Bus
	Node   site.Node
	Server *natsd.Server
	Log    *slog.Logger
}

// Start founds a site in a temporary folder. It is stopped when the test ends.
func Start(t testing.TB, name string) *Site {
	t.Helper()
	return StartIn(t, name, t.TempDir())
}

// StartIn starts a site in a folder, which may hold one already.
func StartIn(t testing.TB, name, dir string) *Site {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	server, err := natsd.Start(ctx, natsd.Config{
		Name: name, Dir: dir + "/nats", Listen: "127.0.0.1:0", Sync: natsd.SyncFiles, Log: log,
	})
	if err != nil {
		t.Fatalf("start NATS: %v", err)
	}
	t.Cleanup(server.Stop)
	b, err := bus.Connect(bus.Config{Name: name, Syncer: server, Log: log, Dial: server.Dial, Options: []nats.Option{server.InProcess()}})
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(b.Close)
	if err := b.EnsureStreams(ctx, events.SiteStreams()); err != nil {
		t.Fatalf("create streams: %v", err)
	}
	self, err := site.Identify(ctx, b, name)
	if err != nil {
		t.Fatalf("identify site: %v", err)
	}
	incarnation, err := site.NewID()
	if err != nil {
		t.Fatal(err)
	}
	node := site.Node{Site: self, Name: "node", Incarnation: incarnation, Data: dir, URL: server.URL()}
	return &Site{Bus: b, Node: node, Server: server, Log: log}
}

// testWriter sends a log to the test's own.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}

// Run runs a service until the test ends, and waits for it.
func Run(t testing.TB, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("service: %v", err)
		}
		ended <- nil
	}
	t.Cleanup(stop)
	return stop
}

// Eventually waits until ok holds, at most for a while that only a defect uses up.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-tick.C
	}
}
