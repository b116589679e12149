package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
)

// rivals 18; journal 207: the states of 1,000 directories are listed as a whole, in a moment.
func TestManyDirectoriesAreListed(t *testing.T) {
	const directories = 1000
	hub := startServe(t, "--data", t.TempDir(), "--site", "east", "--node", "n1", "--services", "policy,notifier")
	at := hub.values["nats"]
	b, err := bus.Connect(bus.Config{Name: "test", URL: at, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	publish := func(stream string, f events.Fact) {
		t.Helper()
		if _, err := b.Publish(t.Context(), stream, f); err != nil {
			t.Fatal(err)
		}
	}
	publish(events.StreamPools, &events.PoolCreated{Pool: "vms"})
	var holders []api.Handler
	for i := range directories {
		id, path := events.DirectoryID(fmt.Sprintf("%016x", i)), fmt.Sprintf("/d%04d", i)
		publish(events.StreamDirectories, &events.DirectoryTracked{Directory: id, Pool: "vms", Path: path})
		holders = append(holders, api.On(api.HolderSubject(id, api.DirectoryStatus), func(context.Context, api.Nothing) (api.Status, error) {
			return api.Status{ID: id, Role: events.Slave, State: "replaying", Primary: "west", Clients: []api.Client{}}, nil
		}))
	}
	stop, err := api.Serve(t.Context(), b.Conn(), slog.New(slog.DiscardHandler), holders...)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for _, command := range [][]string{{"mirror", "status", "vms"}, {"mirror", "status"}, {"status"}} {
		start := time.Now()
		code, out, messages := tidemark(t, "", append(command, "-o", "json", "--nats-url", at)...)
		took := time.Since(start)
		t.Logf("%v of %d directories: %s", command, directories, took)
		if code != 0 {
			t.Fatalf("%v: exit code %d: %s", command, code, messages)
		}
		var states []mirrorState
		if command[0] == "mirror" {
			if err := json.Unmarshal([]byte(out), &states); err != nil || len(states) != directories {
				t.Errorf("%v lists %d directories (%v)", command, len(states), err)
			}
		}
		if took > 5*time.Second { // a fifth of a second on a machine that does nothing else
			t.Errorf("%v took %s", command, took)
		}
	}
}
