package telemetry

import (
	"errors"
	"fmt"
	"net/http"
)

// Check is one thing that must be well. Test returns nil or says what is wrong; it is
// called for each request, from several goroutines, and must not block for long.
type Check struct {
	Name string
	Test func() error
}

var errNotYet = errors.New("not ready yet")

// Signalled returns a check that is well once the channel is closed.
func Signalled(name string, ready <-chan struct{}) Check {
	return Check{name, func() error {
		select {
		case <-ready:
			return nil
		default:
			return errNotYet
		}
	}}
}

// report answers 200 when every check is well and 503 otherwise, one line for each.
func report(checks ...[]Check) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		status, body := http.StatusOK, ""
		for _, group := range checks {
			for _, c := range group {
				result := "ok"
				if err := c.Test(); err != nil {
					status, result = http.StatusServiceUnavailable, err.Error()
				}
				body += fmt.Sprintf("%s: %s\n", c.Name, result)
			}
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // the client is gone: nobody to tell
	}
}
