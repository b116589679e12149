package main

import (
	"net/http"
	"testing"
)

// A site that was started without more answers a browser that asks by address, and not one that
// was led to it by a name that means this host.
func TestHTTPAnswersUnderItsNames(t *testing.T) {
	s := startServe(t, "--data", t.TempDir(), "--http-name", "East.Example")
	for _, c := range []struct {
		host, path string
		want       int
	}{
		{s.values["http"], "/", http.StatusOK},
		{"localhost", "/metrics", http.StatusOK},
		{"east.example:80", "/", http.StatusOK},
		{"rebound.example", "/", http.StatusForbidden},
		{"rebound.example", "/dashboard/stream", http.StatusForbidden},
		{"rebound.example", "/metrics", http.StatusForbidden},
		{"rebound.example", "/healthz", http.StatusOK},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.values["http"]+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = c.host
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != c.want {
			t.Errorf("%s of %s: %s", c.path, c.host, answer.Status)
		}
	}
}
