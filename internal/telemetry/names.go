package telemetry

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
)

// named lets requests through that were made to an address, to localhost, or to one of names.
//
// A page that a browser on this host has loaded from anywhere may ask what it likes of its own
// name, and whoever owns that name can have it mean 127.0.0.1 (DNS rebinding). The browser says
// in Host which name it asked for; what is no name cannot be made to mean something else.
// Whether the process is healthy anybody may ask: it tells nothing.
func named(names []string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostOf(r.Host)
		if !public(r) && host != "localhost" && net.ParseIP(host) == nil && !slices.Contains(names, host) {
			http.Error(w, fmt.Sprintf("this is not answered under the name %.100q: ask by address or as localhost, or start with --http-name", host), http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// hostOf returns the host of a request's Host, as names are compared: without its port,
// brackets and final dot.
func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// public reports whether a request is about health alone.
func public(r *http.Request) bool { return r.URL.Path == "/healthz" || r.URL.Path == "/readyz" }
