package dashboard

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/events"
	"tidemark/internal/site"
	"tidemark/internal/sitetest"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func newService(t testing.TB) *Service {
	t.Helper()
	s, err := New(Deps{Node: site.Node{Name: "n1"}, Log: slog.New(slog.DiscardHandler), Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// hostile is a name that would be a script, if it were taken for HTML.
const hostile = `vms/<script>alert(1)</script>"'`

// The whole page of a site where something is wrong, as it is sent.
func TestPageIsAsItWas(t *testing.T) {
	s := NewState(noon())
	for i := range 4 {
		s.Heard(snapshot(at(5*i), replica("vms/a", lagging), replica(hostile), replica("vms/c", owned, followed)))
	}
	s.Instance(&events.InstanceRemoved{Node: "n2", Service: "journal", Reason: "silent", At: instant(0)})
	s.Noted(events.LifecycleNoted{Pool: "vms", Path: "/c", Node: "n1", What: events.Promoted, Detail: "forced", At: instant(3)})
	s.Noted(events.LifecycleNoted{Node: "n2", What: events.InstanceLost, At: instant(9)})
	r, err := newRenderer()
	if err != nil {
		t.Fatal(err)
	}
	p := s.Page(Query{Page: 1}, at(20))
	p.Node, p.Version, p.Assets = "n1", "v1", "1234"
	html, err := r.whole(p)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(html), "<script>alert") {
		t.Error("a name is taken for HTML")
	}
	golden := filepath.Join("testdata", "page.html")
	if *rewrite {
		if err := os.WriteFile(golden, html, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(html)); diff != "" {
		t.Errorf("the page has changed; look at it, and write it anew with -rewrite:\n%s", diff)
	}
}

func get(t testing.TB, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// The page may load its own files and nothing else, and names only files that there are.
func TestPageIsClosed(t *testing.T) {
	s := newService(t)
	s.change(func(state *State) { state.Heard(snapshot(time.Now(), replica("vms/a"))) })
	h := s.Handler()
	page := get(t, h, "/?q=a")
	policy := page.Header().Get("Content-Security-Policy")
	if page.Code != http.StatusOK || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("%d, with the policy %q", page.Code, policy)
	}
	body := page.Body.String()
	for _, foreign := range []string{"//", "style=", "onclick", "onload", "<style", "javascript:"} {
		if strings.Contains(body, foreign) {
			t.Errorf("the page holds %q", foreign)
		}
	}
	for _, file := range []string{"style.css", "script.js", "icon.svg"} {
		if !strings.Contains(body, "/dashboard/"+file) {
			t.Errorf("the page does not name %s", file)
		}
		if w := get(t, h, "/dashboard/"+file); w.Code != http.StatusOK || w.Body.Len() == 0 || w.Header().Get("Content-Type") == "" {
			t.Errorf("%s: %d, %d bytes, %s", file, w.Code, w.Body.Len(), w.Header().Get("Content-Type"))
		}
	}
	for _, path := range []string{"/nothing", "/dashboard/page.html", "/dashboard/..%2fdoc.go"} {
		if w := get(t, h, path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := get(t, newService(t).Handler(), "/"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "Not known yet") {
		t.Errorf("before anything was heard: %d", w.Code)
	}
}

// follow opens a stream, and returns what reads its next event of a page.
func follow(t *testing.T, url string) (next func() update, code int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/dashboard/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	return func() update {
		var u update
		event := ""
		for lines.Scan() {
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				event = name
			}
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && event == "page" {
				if err := json.Unmarshal([]byte(data), &u); err != nil {
					t.Errorf("data %q: %v", data, err)
				}
				return u
			}
		}
		return u
	}, answer.StatusCode
}

// A browser is sent the page at once and at each change, until the service ends.
func TestStream(t *testing.T) {
	s := newService(t)
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	next, _ := follow(t, server.URL)
	if u := next(); !strings.Contains(u.HTML, "Not known yet") {
		t.Errorf("first %q", u.Title)
	}
	s.change(func(state *State) { state.Heard(snapshot(time.Now(), replica(hostile, failing))) })
	u := next()
	if !strings.Contains(u.Title, "1 thing needs attention") || strings.Contains(u.HTML, "<script") || !strings.Contains(u.HTML, "&lt;script&gt;") {
		t.Errorf("then %q: %s", u.Title, u.HTML)
	}
	close(s.ended)
	if u := next(); u.HTML != "" {
		t.Errorf("after the end: %q", u.Title)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	s := newService(t)
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	for range streamsMax {
		if _, code := follow(t, server.URL); code != http.StatusOK {
			t.Fatalf("a stream: %d", code)
		}
	}
	if _, code := follow(t, server.URL); code != http.StatusServiceUnavailable {
		t.Errorf("one too many: %d", code)
	}
	if w := get(t, s.Handler(), "/"); w.Code != http.StatusOK {
		t.Errorf("the page itself: %d", w.Code)
	}
}

// rivals 18: the page of 10,000 directories is made in a moment, and is small.
func TestManyDirectories(t *testing.T) {
	s := newService(t)
	of := snapshot(time.Now())
	for i := range 10_000 {
		of.Lines = append(of.Lines, replica(fmt.Sprintf("vms/d%05d", i)))
	}
	for i := range 100 {
		of.Lines[i*100] = replica(of.Lines[i*100].Directory, failing)
	}
	for range 2 {
		start := time.Now()
		s.change(func(state *State) { state.Heard(of) })
		t.Logf("folded in %s", time.Since(start))
		of.At = of.At.Add(sampleAge)
	}
	best := time.Hour
	var page *httptest.ResponseRecorder
	for range 5 {
		start := time.Now()
		page = get(t, s.Handler(), "/?q=d")
		best = min(best, time.Since(start))
	}
	sitetest.Within(t, "the page", best, 200*time.Millisecond)
	if n := page.Body.Len(); n > 100<<10 {
		t.Errorf("the page has %d bytes", n)
	}
	if !bytes.Contains(page.Body.Bytes(), []byte("100 things need attention")) || !bytes.Contains(page.Body.Bytes(), []byte("and 88 more")) {
		t.Error("it does not say what is wrong")
	}
}
