package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// page returns what an address answers.
func page(t *testing.T, address string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The dashboard is where the notifier is, shows what is made, and another process says where.
func TestDashboardIsWithTheNotifier(t *testing.T) {
	data := t.TempDir()
	hub := startServe(t, "--data", data, "--site", "east", "--node", "n1", "--services", "policy,notifier")
	other := startServe(t, "--data", data, "--node", "n1", "--services", "journal", "--nats-url", hub.values["nats"])
	if told := page(t, other.values["http"]); !strings.Contains(told, "at node n1: http://"+hub.values["http"]+"/") {
		t.Errorf("the other process says %s", told)
	}
	code, _, messages := tidemark(t, "", "image", "create", "vms/prod/disk", "--size", "1MiB", "--nats-url", hub.values["nats"])
	if code != 3 { // there is no such pool
		t.Fatalf("exit code %d: %s", code, messages)
	}
	for _, args := range [][]string{{"pool", "create", "vms"}, {"image", "create", "vms/prod/disk", "--size", "1MiB"}} {
		if code, _, messages := tidemark(t, "", append(args, "--nats-url", hub.values["nats"])...); code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, messages)
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(testTime); ; <-tick.C {
		shown := page(t, hub.values["http"])
		if strings.Contains(shown, "Everything is safe") && strings.Contains(shown, "vms/prod") && strings.Contains(shown, "1 primary has no replica") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the dashboard shows %s", shown)
		}
	}
	hub.stop(t)
	if told := page(t, other.values["http"]); !strings.Contains(told, "None answers now") {
		t.Errorf("without a notifier the other process says %s", told)
	}
}
