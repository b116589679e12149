package telemetry

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// guarded lets requests through that carry the token: as a bearer (a scraper, curl), or as the
// password of whatever user (a browser asks for it). Whether the process is healthy anybody may
// ask: a supervisor has no secret. An empty token guards nothing.
func guarded(token string, h http.Handler) http.Handler {
	if token == "" {
		return h
	}
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(shown(r)))
		if !public(r) && subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="Tidemark", charset="UTF-8"`)
			http.Error(w, "the token is missing or wrong: send it as a bearer, or as the password of any user", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// shown returns the token that a request carries.
func shown(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	kind, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(kind, "Bearer") {
		return ""
	}
	return token
}
