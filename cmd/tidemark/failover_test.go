package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"tidemark/internal/sitetest"
)

// twoSites are a primary and a replica of directories of the pool vms.
type twoSites struct {
	t          testing.TB
	east, west *serving
}

// mirroredPair starts two sites, with directories at east that west follows to their end.
func mirroredPair(t testing.TB, directories ...string) *twoSites {
	t.Helper()
	p := &twoSites{
		t:    t,
		east: startServe(t, "--data", t.TempDir(), "--site", "east", "--node", "e1"),
		west: startServe(t, "--data", t.TempDir(), "--site", "west", "--node", "w1"),
	}
	p.mirror(directories...)
	return p
}

// mirror creates directories at east that west follows to their end.
func (p *twoSites) mirror(directories ...string) {
	p.t.Helper()
	p.must(p.east, "", "pool", "create", "vms")
	token := p.must(p.east, "", "mirror", "peer", "create-token", "vms")
	p.must(p.west, "", "pool", "create", "vms")
	p.must(p.west, token, "mirror", "peer", "import-token", "vms")
	for _, d := range directories {
		p.must(p.east, "", "image", "create", d+"/disk", "--size", "1MiB", "--object-size", "64KiB")
		p.must(p.west, "", "mirror", "add", d)
	}
	p.level(p.west, len(directories))
}

// await runs a command at a site until it succeeds.
func (p *twoSites) await(at *serving, what string, args ...string) {
	p.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(testTime); ; <-tick.C {
		code, _, messages := tidemark(p.t, "", append(args, "--nats-url", at.values["nats"])...)
		if code == 0 {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("in vain: %s: %s", what, messages)
		}
	}
}

// must runs a command at a site, which succeeds.
func (p *twoSites) must(at *serving, in string, args ...string) string {
	p.t.Helper()
	code, out, messages := tidemark(p.t, in, append(args, "--nats-url", at.values["nats"])...)
	if code != 0 {
		p.t.Fatalf("%v: exit code %d: %s", args, code, messages)
	}
	return out
}

// level waits until a site follows everything to its end.
func (p *twoSites) level(at *serving, directories int) {
	p.t.Helper()
	deadline := time.Now().Add(testTime)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		var states []mirrorState
		if err := json.Unmarshal([]byte(p.must(at, "", "mirror", "status", "vms", "-o", "json")), &states); err != nil {
			p.t.Fatal(err)
		}
		level := 0
		for _, s := range states {
			if s.State == "replaying" && s.Primary != "" && s.Entries == 0 && s.Position.Tag() > 0 {
				level++
			}
		}
		if level == directories {
			tick.Stop()
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("in vain: %+v", states)
		}
	}
}

// journal 208, 209: more directories than change their role at a time are demoted and
// promoted by one command.
func TestPoolOfManyChangesItsRole(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it runs two sites")
	}
	var names []string
	for i := range rolesAtATime + 3 {
		names = append(names, fmt.Sprintf("vms/d%02d", i))
	}
	p := mirroredPair(t, names...)
	want := fmt.Sprintf("%d of %d directories of pool vms", len(names), len(names))
	for _, step := range []struct {
		at   *serving
		verb string
	}{{p.east, "demote"}, {p.west, "promote"}} {
		start := time.Now()
		code, out, messages := tidemark(t, "", "mirror", step.verb, "vms", "--nats-url", step.at.values["nats"])
		t.Logf("%s of %d directories: %s", step.verb, len(names), time.Since(start))
		if code != 0 || !strings.Contains(messages, want) || strings.Count(out, "vms/d") != len(names) {
			t.Fatalf("%s: exit code %d: %s%s", step.verb, code, messages, out)
		}
	}
	for _, name := range names {
		p.must(p.west, "", "image", "meta", "set", name+"/disk", "key", "value")
	}
}

// A peer that is gone can be removed, with what followed it: nothing waits for it.
func TestUnreachablePeerIsRemoved(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it runs two sites")
	}
	p := mirroredPair(t, "vms/a", "vms/b", "vms/c")
	at := p.west.values["nats"]
	p.must(p.east, "", "mirror", "demote", "vms/c")
	p.must(p.west, "", "mirror", "promote", "vms/c")
	p.east.stop(t)
	quick := func(code int, says string, args ...string) {
		t.Helper()
		start := time.Now()
		got, _, messages := tidemark(t, "", append(args, "--nats-url", at)...)
		if got != code || !strings.Contains(messages, says) {
			t.Errorf("%v: exit code %d, want %d: %s", args, got, code, messages)
		}
		sitetest.Prompt(t, args[0]+" "+args[1], start, 5*time.Second)
	}
	// journal 295, 297: a copy is removed although its primary cannot be told.
	quick(0, "", "mirror", "remove", "vms/a")
	quick(3, "no directory", "mirror", "remove", "vms/a")
	quick(5, "site east may be primary and cannot be asked", "mirror", "promote", "vms/b")
	quick(0, "whether site east has everything is not known", "mirror", "demote", "vms/c")
	quick(5, "site east may be primary and cannot be asked", "mirror", "promote", "vms/c")
	// Without the peer its word is not needed: what was given up in order is taken back.
	quick(0, "", "mirror", "peer", "remove", "vms", "east")
	quick(0, "", "mirror", "promote", "vms/c")
	quick(5, "the other site is still primary of vms/b", "mirror", "promote", "vms/b")
	quick(0, "vms/b: forced: gives up ", "mirror", "promote", "--force", "vms/b")
	quick(0, "", "image", "meta", "set", "vms/b/disk", "key", "value")
	quick(0, "", "mirror", "disable", "vms")
	quick(5, "mirror enable vms", "mirror", "add", "vms/a")
}

// BenchmarkFailOver is the time from the demotion at one site to the first entry that the
// other one has logged, with a replica that is level.
func BenchmarkFailOver(b *testing.B) {
	p := mirroredPair(b, "vms/a")
	from, to := p.east, p.west
	for b.Loop() {
		p.must(from, "", "mirror", "demote", "vms/a")
		p.must(to, "", "mirror", "promote", "vms/a")
		p.must(to, "", "image", "meta", "set", "vms/a/disk", "key", "value")
		from, to = to, from
		b.StopTimer()
		p.level(to, 1)
		b.StartTimer()
	}
}

// BenchmarkForcedFailOver is the time from a promotion by force, while the primary's site is
// gone, to the first entry that is logged.
func BenchmarkForcedFailOver(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		p := mirroredPair(b, "vms/a")
		p.east.stop(b)
		b.StartTimer()
		p.must(p.west, "", "mirror", "promote", "--force", "vms/a")
		p.must(p.west, "", "image", "meta", "set", "vms/a/disk", "key", "value")
	}
}
