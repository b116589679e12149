package main

import (
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHealth asks a process that serves, one that is not ready, and nobody.
func TestHealth(t *testing.T) {
	hub := startServe(t, "--data", t.TempDir(), "--site", "east", "--node", "n1")
	for _, live := range []string{"--live=false", "--live"} {
		code, out, messages := tidemark(t, "", "health", live, "--http", hub.values["http"], "-o", "json")
		var parts []partHealth
		if err := json.Unmarshal([]byte(out), &parts); err != nil || code != 0 || len(parts) < 2 {
			t.Fatalf("health %s: exit code %d, %v: %s%s", live, code, err, out, messages)
		}
		for _, p := range parts {
			if p.State != "ok" {
				t.Errorf("health %s: %s is %q", live, p.Part, p.State)
			}
		}
	}
	if code, _, messages := tidemark(t, "", "health", "--http", freeAddress(t)); code != 6 || !strings.Contains(messages, "nobody answers") {
		t.Errorf("nobody there: exit code %d: %s", code, messages)
	}
	if code, _, messages := tidemark(t, "", "health", "--http", "8080"); code != 2 {
		t.Errorf("no address: exit code %d: %s", code, messages)
	}
}

func TestUnwell(t *testing.T) {
	if err := unwell([]partHealth{{"nats", "ok"}}); err != nil {
		t.Error(err)
	}
	err := unwell([]partHealth{{"nats", "ok"}, {"journal", "not ready yet"}})
	if err == nil || err.Error() != "not ready: journal: not ready yet" {
		t.Errorf("a part that is not ready: %v", err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// TestServiceManagerIsTold: serve says READY=1 once, when it is ready, to the socket that
// systemd names; a socket where nobody listens disturbs nothing.
func TestServiceManagerIsTold(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = manager.Close() }()
	t.Setenv(notifySocket, socket)
	s := startServe(t, "--data", t.TempDir(), "--site", "east", "--node", "n1")
	if err := manager.SetReadDeadline(time.Now().Add(testTime)); err != nil {
		t.Fatal(err)
	}
	heard := make([]byte, 64)
	n, err := manager.Read(heard)
	if err != nil || string(heard[:n]) != "READY=1" {
		t.Errorf("the service manager hears %q, %v", heard[:n], err)
	}
	if code := s.stop(t); code != 0 {
		t.Errorf("serve ended with %d: %s", code, s.log)
	}
	t.Setenv(notifySocket, socket+".gone")
	if code := startServe(t, "--data", t.TempDir()).stop(t); code != 0 {
		t.Errorf("a service manager that does not listen: serve ended with %d", code)
	}
}
