package main

import (
	"strings"
	"testing"
)

// What is known of a site is shown although its policy service is down.
func TestStatusWithoutPolicy(t *testing.T) {
	data := t.TempDir()
	hub := startServe(t, "--data", data, "--site", "east", "--node", "n1", "--services", "journal,replayer,notifier")
	at := hub.values["nats"]
	policy := startServe(t, "--data", data, "--node", "n1", "--services", "policy", "--nats-url", at)
	must := func(args ...string) string {
		t.Helper()
		code, out, messages := tidemark(t, "", append(args, "--nats-url", at)...)
		if code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, messages)
		}
		return out
	}
	must("pool", "create", "vms")
	must("image", "create", "vms/prod/disk", "--size", "1MiB")
	before := must("mirror", "status", "vms")
	policy.stop(t)
	if after := must("mirror", "status", "vms"); after != before {
		t.Errorf("mirror status without policy:\n%s\nwith it:\n%s", after, before)
	}
	all := must("status")
	for _, want := range []string{
		"ATTENTION  policy  nobody answers: this is what the log says, and nothing can be changed  start the policy service of a node",
		"site:  east", "vms   off        1            0        0", "vms/prod   master  east     ready",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("status does not say %q:\n%s", want, all)
		}
	}
	if code, _, _ := tidemark(t, "", "mirror", "status", "none", "--nats-url", at); code != 3 {
		t.Errorf("a pool that is not there: exit code %d", code)
	}
	if code, _, _ := tidemark(t, "", "pool", "create", "more", "--nats-url", at, "--timeout", "2s"); code != 6 {
		t.Errorf("a change without policy: exit code %d", code)
	}
}
