package telemetry

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// A page that a browser loaded from elsewhere must not read this one by having its own name mean
// this host; people and scrapers who ask by address go on.
func TestForeignNamesAreRefused(t *testing.T) {
	pages := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	for _, c := range []struct {
		host, path string
		want       int
	}{
		{"127.0.0.1:8080", "/", http.StatusOK},
		{"127.0.0.1", "/", http.StatusOK},
		{"[::1]:8080", "/metrics", http.StatusOK},
		{"[::1]", "/", http.StatusOK},
		{"localhost:8080", "/", http.StatusOK},
		{"LOCALHOST.", "/", http.StatusOK},
		{"East.Example:8080", "/dashboard/stream", http.StatusOK},
		{"evil.example", "/", http.StatusForbidden},
		{"evil.example:8080", "/dashboard/stream", http.StatusForbidden},
		{"evil.example:8080", "/metrics", http.StatusForbidden},
		{"evil.example:8080", "/process", http.StatusForbidden},
		{"127.0.0.1.evil.example:8080", "/", http.StatusForbidden},
		{"localhost.evil.example", "/", http.StatusForbidden},
		{"2130706433", "/", http.StatusForbidden},
		{"", "/", http.StatusForbidden},
		{"east.example", "/healthz", http.StatusOK},
		{"probe", "/healthz", http.StatusOK},
		{"probe", "/readyz", http.StatusOK},
	} {
		r := httptest.NewRequest(http.MethodGet, "http://x"+c.path, nil)
		r.Host = c.host
		w := httptest.NewRecorder()
		named([]string{"east.example"}, pages).ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("Host %q, %s: %d, want %d", c.host, c.path, w.Code, c.want)
		}
	}
}
