package main

import (
	"strings"
	"testing"
)

// The catalogue's weak point of promotions (section 3.4; journal 211, 288, 289): east is
// demoted, west is promoted, written and demoted, and east has not followed that. What
// stands in east's journal is a demotion, and not the last one.
func TestPromotionNeedsTheLastTurn(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it runs two sites")
	}
	data := t.TempDir()
	p := &twoSites{
		t:    t,
		east: startServe(t, "--data", data, "--site", "east", "--node", "e1", "--services", "policy,notifier,journal"),
		west: startServe(t, "--data", t.TempDir(), "--site", "west", "--node", "w1"),
	}
	startReplayer := func() *serving {
		return startServe(t, "--data", data, "--node", "e1", "--services", "replayer", "--nats-url", p.east.values["nats"])
	}
	replayer := startReplayer()
	p.mirror("vms/a")
	p.must(p.east, "", "mirror", "demote", "vms/a")
	p.must(p.west, "", "mirror", "promote", "vms/a")
	p.level(p.east, 1)
	replayer.stop(t)
	p.must(p.west, "", "image", "meta", "set", "vms/a/disk", "turn", "west")
	p.must(p.west, "", "mirror", "demote", "vms/a")
	code, _, messages := tidemark(t, "", "mirror", "promote", "vms/a", "--nats-url", p.east.values["nats"])
	if code != 5 || !strings.Contains(messages, "how far its copy here has come is unknown") {
		t.Errorf("east is promoted without west's turn: exit code %d: %s", code, messages)
	}
	startReplayer()
	p.await(p.east, "east has west's turn", "mirror", "promote", "vms/a")
	if out := p.must(p.east, "", "image", "meta", "get", "vms/a/disk", "turn"); !strings.Contains(out, "west") {
		t.Errorf("west's turn is lost: %s", out)
	}
}
