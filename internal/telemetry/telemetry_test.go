package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tidemark/internal/telemetry"
)

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestReadinessFollowsItsChecks(t *testing.T) {
	ready := make(chan struct{})
	var broken error
	h := telemetry.Handler(telemetry.Config{
		Title:   "east <n1>",
		Metrics: telemetry.NewRegistry("test"),
		Live:    []telemetry.Check{{Name: "nats", Test: func() error { return broken }}},
		Ready:   []telemetry.Check{telemetry.Signalled("journal", ready)},
		Log:     slog.New(slog.DiscardHandler),
	})
	if code, body := get(t, h, "/healthz"); code != http.StatusOK || body != "process: ok\nnats: ok\n" {
		t.Errorf("healthz of a healthy process: %d %q", code, body)
	}
	if code, body := get(t, h, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "journal: not ready yet") {
		t.Errorf("readyz before it is ready: %d %q", code, body)
	}
	close(ready)
	if code, _ := get(t, h, "/readyz"); code != http.StatusOK {
		t.Errorf("readyz when ready: %d", code)
	}
	broken = errors.New("stream frozen")
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := get(t, h, path); code != http.StatusServiceUnavailable || !strings.Contains(body, "stream frozen") {
			t.Errorf("%s with a broken part: %d %q", path, code, body)
		}
	}
	if code, body := get(t, h, "/"); code != http.StatusOK || !strings.Contains(body, "east &lt;n1&gt;") {
		t.Errorf("page: %d %q", code, body)
	}
	if code, _ := get(t, h, "/nothing"); code != http.StatusNotFound {
		t.Errorf("unknown page: %d", code)
	}
}

// A home page takes the place of the page about the process, which says elsewhere where it is.
func TestHome(t *testing.T) {
	cfg := telemetry.Config{
		Title: "east", Metrics: telemetry.NewRegistry("test"), Log: slog.New(slog.DiscardHandler),
		Elsewhere: func(context.Context) string { return "it is at <n2>" },
	}
	if code, body := get(t, telemetry.Handler(cfg), "/"); code != http.StatusOK || !strings.Contains(body, "it is at &lt;n2&gt;") {
		t.Errorf("without a home page: %d %q", code, body)
	}
	cfg.Home = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "home of "+r.URL.Path) })
	h := telemetry.Handler(cfg)
	for path, want := range map[string]string{
		"/": "home of /", "/dashboard/x": "home of /dashboard/x", "/healthz": "process: ok", "/process": "<h1>Tidemark: east</h1>",
	} {
		if code, body := get(t, h, path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
}

func TestMetricsShowProcessAndVersion(t *testing.T) {
	h := telemetry.Handler(telemetry.Config{Metrics: telemetry.NewRegistry("v9"), Log: slog.New(slog.DiscardHandler)})
	code, body := get(t, h, "/metrics")
	for _, want := range []string{"process_start_time_seconds", "go_goroutines", `tidemark_build_info{version="v9"} 1`} {
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("metrics (%d) lack %s", code, want)
		}
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- telemetry.Serve(ctx, l, telemetry.Config{
			Metrics: telemetry.NewRegistry("test"), Log: slog.New(slog.DiscardHandler),
		})
	}()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(body) != "process: ok\n" {
		t.Errorf("healthz said %q", body)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve returned %v", err)
	}
}

func TestLoggers(t *testing.T) {
	var b bytes.Buffer
	telemetry.NewLogger(&b, telemetry.LogJSON, slog.LevelInfo).Info("message", "key", 1)
	var record map[string]any
	if err := json.Unmarshal(b.Bytes(), &record); err != nil || record["key"] != 1.0 {
		t.Errorf("JSON log line %q: %v", b.String(), err)
	}
	b.Reset()
	telemetry.NewLogger(&b, telemetry.LogText, slog.LevelWarn).Info("hidden")
	if b.Len() != 0 {
		t.Errorf("a record below the level was logged: %q", b.String())
	}
	if _, err := telemetry.ParseLevel("loud"); err == nil {
		t.Error("an unknown level was accepted")
	}
	if l, err := telemetry.ParseLevel("WARN"); err != nil || l != slog.LevelWarn {
		t.Errorf("WARN is %v, %v", l, err)
	}
}
