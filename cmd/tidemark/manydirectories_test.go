package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"tidemark/internal/api"
	"tidemark/internal/sitetest"
	"tidemark/internal/sitetest/largesite"
	"tidemark/services/notifier"
	"tidemark/services/notifier/dashboard"
	"tidemark/services/policy"
)

// largeSite is a site whose policy and notifier run in the test's process, and whose nodes
// are simulated.
func largeSite(t *testing.T, directories, nodes int) (large *largesite.Site, at string, page http.Handler) {
	t.Helper()
	s := sitetest.Start(t, "east")
	start := time.Now()
	large = largesite.New(t, s, directories, nodes)
	t.Logf("%d directories on %d nodes are in the log after %s", directories, nodes, time.Since(start))
	board, err := dashboard.New(dashboard.Deps{Bus: s.Bus, Node: s.Node, Log: s.Log})
	if err != nil {
		t.Fatal(err)
	}
	run := func(run func(context.Context) error) {
		done := make(chan error, 1)
		go func() { done <- run(t.Context()) }()
		t.Cleanup(func() {
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	for _, service := range []service{
		policy.New(policy.Deps{Bus: s.Bus, Node: s.Node, Log: s.Log}), notifier.New(notifier.Deps{Bus: s.Bus, Node: s.Node, Log: s.Log}),
	} {
		run(service.Run)
		<-service.Ready()
	}
	run(board.Run)
	return large, s.Server.URL(), board.Handler()
}

// rivals 18; journal 207; directories 146: a site of many directories is told in a moment: what is unusual in
// it to a person, and all of it to a program.
func TestManyDirectoriesAreTold(t *testing.T) {
	const bound = 200 * time.Millisecond
	directories := sitetest.Rounds(2000)
	if os.Getenv(sitetest.NumbersVariable) != "" {
		directories = 10_000
	}
	large, at, page := largeSite(t, directories, 50)
	run := func(args ...string) (out string, took time.Duration) {
		t.Helper()
		best := time.Hour
		for range 5 {
			start := time.Now()
			code, text, messages := tidemark(t, "", append(args, "--nats-url", at)...)
			if code != 0 {
				t.Fatalf("%v: exit code %d: %s", args, code, messages)
			}
			out, best = text, min(best, time.Since(start))
		}
		t.Logf("%v of %d directories: %s, %d bytes", args, directories, best, len(out))
		return out, best
	}
	out, took := run("status")
	sitetest.Within(t, "status", took, bound)
	if lines := strings.Count(out, "\n"); lines > 60 || strings.Contains(out, "ATTENTION") {
		t.Errorf("status of a site that is well has %d lines:\n%s", lines, out)
	}
	for _, args := range [][]string{{"mirror", "status", "-o", "json"}, {"status", "-o", "json"}, {"status", "--all"}} {
		out, _ := run(args...)
		if n := strings.Count(out, "vms/d"); n < directories {
			t.Errorf("%v names %d directories", args, n)
		}
	}
	look := func(want string) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond) // the site needs the processors too
		defer tick.Stop()
		for deadline := time.Now().Add(testTime); ; <-tick.C {
			w, start := httptest.NewRecorder(), time.Now()
			page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			took := time.Since(start)
			if strings.Contains(w.Body.String(), want) {
				t.Logf("the dashboard of %d directories: %s, %d bytes", directories, took, w.Body.Len())
				sitetest.Within(t, "the dashboard", took, bound)
				if w.Body.Len() > 100<<10 {
					t.Errorf("the dashboard has %d bytes", w.Body.Len())
				}
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the dashboard does not show %q", want)
			}
		}
	}
	look("Everything is safe")
	large.Change(77, func(s *api.Standing) { s.State, s.Error = "error", "the disk is on fire" })
	large.Change(78, func(s *api.Standing) { s.Lag = api.Lag{Entries: 9, Bytes: 1 << 20, Seconds: 99} })
	out, took = run("status")
	sitetest.Within(t, "status", took, bound)
	var told []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "ATTENTION") {
			told = append(told, line)
		}
	}
	if len(told) != 2 || !strings.Contains(told[0], "vms/d00077  error: the disk is on fire") || !strings.Contains(told[1], "vms/d00078  lagging: 1m39s behind") {
		t.Errorf("what needs attention: %q", told)
	}
	if strings.Contains(out, "vms/d00079") {
		t.Errorf("a directory that is well is shown:\n%s", out)
	}
	look("2 things need attention")
	code, _, messages := tidemark(t, "", "status", "--check", "--nats-url", at)
	if code != 5 || !strings.Contains(messages, "2 things need attention, first vms/d00077: error: the disk is on fire") {
		t.Errorf("--check: exit code %d: %s", code, messages)
	}
	var whole siteStatus
	out, _ = run("status", "-o", "json")
	if err := json.Unmarshal([]byte(out), &whole); err != nil || len(whole.Directories) != directories || len(whole.Attention) != 2 {
		t.Errorf("status as JSON has %d directories and %d worries (%v)", len(whole.Directories), len(whole.Attention), err)
	}
}
