package telemetry

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestTokenGuardsEverythingButHealth(t *testing.T) {
	const token = "0123456789abcdef"
	pages := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	bearer := func(s string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", s) }
	}
	password := func(s string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth("anybody", s) }
	}
	for _, c := range []struct {
		name, token, path string
		show              func(*http.Request)
		want              int
	}{
		{"no token is demanded", "", "/metrics", bearer(""), http.StatusNoContent},
		{"none is shown", token, "/metrics", bearer(""), http.StatusUnauthorized},
		{"none is shown, of the page", token, "/", bearer(""), http.StatusUnauthorized},
		{"health is public", token, "/healthz", bearer(""), http.StatusNoContent},
		{"readiness is public", token, "/readyz", bearer(""), http.StatusNoContent},
		{"what begins like health is not", token, "/healthz/../metrics", bearer(""), http.StatusUnauthorized},
		{"a bearer", token, "/metrics", bearer("Bearer " + token), http.StatusNoContent},
		{"a bearer of another one", token, "/metrics", bearer("Bearer " + token + "0"), http.StatusUnauthorized},
		{"an empty bearer", token, "/metrics", bearer("Bearer "), http.StatusUnauthorized},
		{"another kind", token, "/metrics", bearer("Digest " + token), http.StatusUnauthorized},
		{"a password", token, "/", password(token), http.StatusNoContent},
		{"another password", token, "/", password("x"), http.StatusUnauthorized},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.Path = c.path
		c.show(r)
		w := httptest.NewRecorder()
		guarded(c.token, pages).ServeHTTP(w, r)
		if w.Code != c.want || (w.Code == http.StatusUnauthorized) != (w.Header().Get("WWW-Authenticate") != "") {
			t.Errorf("%s: %d, want %d", c.name, w.Code, c.want)
		}
	}
}
