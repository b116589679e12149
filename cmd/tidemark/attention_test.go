package main

import (
	"strings"
	"testing"

	"tidemark/internal/api"
)

// journal 299, 302; rivals 7: what needs attention first, and what to do about it.
func TestAttention(t *testing.T) {
	line := func(state, failure string) directoryLine {
		return directoryLine{
			mirrorState: mirrorState{Directory: "vms/a", Primary: "west", State: state, Error: failure}, Mapping: mapped,
		}
	}
	with := func(l directoryLine, change func(*directoryLine)) directoryLine {
		change(&l)
		return l
	}
	type want struct {
		rank        int
		message, do string
	}
	for name, c := range map[string]struct {
		line directoryLine
		want []want
	}{
		"a replica that follows": {line("replaying", ""), nil},
		"a first sync":           {line("syncing", ""), nil},
		"split brain": {
			line("split_brain", "parted at 5.7"),
			[]want{{0, "split_brain: parted at 5.7", "at the site that gives its changes up: tidemark mirror resync vms/a"}},
		},
		"an error":     {line("error", "the disk is full"), []want{{0, "error: the disk is full", ""}}},
		"disconnected": {line("disconnected", "too old"), []want{{1, "disconnected: too old", "tidemark mirror resync vms/a"}}},
		"a silent primary": {
			line("stalled", "not heard for 8s"), []want{{1, "stalled: not heard for 8s", "look at site west and the link to it"}},
		},
		"in a chain": {
			with(line("stalled", "behind, and nothing is applied"), func(l *directoryLine) { l.Primary, l.Ahead = "", &api.Ahead{} }),
			[]want{{1, "stalled: behind, and nothing is applied", "look at each site up to the primary, and the links between them"}},
		},
		"nobody": {
			with(line("stalled", ""), func(l *directoryLine) { l.Primary = "" }), []want{{1, "stalled: no node holds it", "start a node with its copy"}},
		},
		"a resync": {
			with(line("resync", ""), func(l *directoryLine) { l.Progress = &api.Progress{Objects: 3, ObjectsTotal: 9, Bytes: 4096} }),
			[]want{{2, "resync: 3 of 9 objects, 4KiB", "nothing: it goes on by itself"}},
		},
		"on its way": {
			with(line("replaying", ""), func(l *directoryLine) { l.Mapping = "shuffling" }),
			[]want{{3, "it is not where it should be yet: shuffling", ""}},
		},
		"lag": {
			with(line("replaying", ""), func(l *directoryLine) { l.Lag = api.Lag{Entries: 2, Bytes: 512, Seconds: 11} }),
			[]want{{4, "lagging: 11s behind its primary (2 entries, 512B)", "tidemark mirror status vms/a"}},
		},
		"no more than the target": {
			with(line("replaying", ""), func(l *directoryLine) { l.TargetRPO, l.Lag.Seconds = 60, 59 }), nil,
		},
		"more than the target": {
			with(line("replaying", ""), func(l *directoryLine) { l.TargetRPO, l.Lag = 1, api.Lag{Entries: 1, Bytes: 1, Seconds: 2} }),
			[]want{{4, "lagging: 2s behind its primary (1 entries, 1B)", "tidemark mirror status vms/a"}},
		},
		"held back on purpose": {
			with(line("replaying", ""), func(l *directoryLine) { l.Delay, l.Lag.Seconds = 600, 605 }), nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.line.worries()
			if len(got) != len(c.want) {
				t.Fatalf("worries %+v, want %+v", got, c.want)
			}
			for i, w := range got {
				if (want{w.rank, w.Message, w.Do}) != c.want[i] || w.What != "vms/a" {
					t.Errorf("worry %+v, want %+v", w, c.want[i])
				}
			}
		})
	}
}

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
		"site:  east", "vms   off        1            0", "vms/prod   master  east     ready",
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
