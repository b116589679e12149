package telemetry

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	headerTime     = 5 * time.Second
	answerTime     = 30 * time.Second
	idleTime       = time.Minute
	headerBytesMax = 32 << 10
	drainTime      = 2 * time.Second
)

// Config says what the HTTP server shows.
type Config struct {
	Title   string // of the page: site and node
	Metrics prometheus.Gatherer
	// Live must be well for the process to be healthy, Live and Ready for it to be ready.
	Live, Ready []Check
	// Home serves what no other page does, the dashboard; nil where there is none. Elsewhere
	// then says where it is; it may be nil too.
	Home      http.Handler
	Elsewhere func(context.Context) string
	// Token is what a request must carry, but for those about health; empty: none.
	Token string
	// Names, in lower case, are those under which it answers besides localhost and addresses.
	// They are not looked at where there is a token, or AnyName is set: something else (TLS)
	// shows that a browser has asked for this server.
	Names   []string
	AnyName bool
	Log     *slog.Logger
}

// Handler serves /metrics, /healthz, /readyz and /process, a page about this process, which is
// also the home page where there is no other.
func Handler(cfg Config) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{}))
	mux.Handle("GET /healthz", report([]Check{{"process", func() error { return nil }}}, cfg.Live))
	mux.Handle("GET /readyz", report(cfg.Live, cfg.Ready))
	mux.Handle("GET /process", page(cfg))
	if cfg.Home != nil {
		mux.Handle("GET /", cfg.Home)
	} else {
		mux.Handle("GET /{$}", page(cfg))
	}
	return mux
}

const pageText = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Tidemark: {{.Title}}</title></head>
<body><h1>Tidemark: {{.Title}}</h1>
<table><tr><th>Part</th><th>State</th></tr>
{{range .Rows}}<tr><td>{{.Name}}</td><td>{{.State}}</td></tr>
{{end}}</table>
{{if .Elsewhere}}<p>{{.Elsewhere}}</p>
{{end}}<p><a href="/metrics">metrics</a> <a href="/healthz">health</a> <a href="/readyz">readiness</a></p>
</body></html>
`

type pageRow struct{ Name, State string }

func page(cfg Config) http.HandlerFunc {
	text := template.Must(template.New("page").Parse(pageText))
	return func(w http.ResponseWriter, r *http.Request) {
		var rows []pageRow
		for _, group := range [][]Check{cfg.Live, cfg.Ready} {
			for _, c := range group {
				state := "ok"
				if err := c.Test(); err != nil {
					state = err.Error()
				}
				rows = append(rows, pageRow{c.Name, state})
			}
		}
		elsewhere := ""
		if cfg.Home == nil && cfg.Elsewhere != nil {
			elsewhere = cfg.Elsewhere(r.Context())
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		if err := text.Execute(w, map[string]any{"Title": cfg.Title, "Rows": rows, "Elsewhere": elsewhere}); err != nil {
			cfg.Log.Debug("page not sent", "error", err)
		}
	}
}

// protected is the handler behind what keeps strangers out.
func protected(cfg Config) http.Handler {
	switch {
	case cfg.Token != "":
		return guarded(cfg.Token, Handler(cfg))
	case cfg.AnyName:
		return Handler(cfg)
	}
	return named(cfg.Names, Handler(cfg))
}

// Serve answers requests on the listener until ctx ends, then lets those under way
// finish for a moment.
func Serve(ctx context.Context, l net.Listener, cfg Config) error {
	srv := &http.Server{
		Handler:           protected(cfg),
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       answerTime,
		WriteTimeout:      answerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    headerBytesMax,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	unwatch := context.AfterFunc(ctx, func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		err := srv.Shutdown(drain)
		if errors.Is(err, context.DeadlineExceeded) {
			err = srv.Close()
		}
		stopped <- err
	})
	err := srv.Serve(l)
	if unwatch() { // nobody asked it to stop
		return fmt.Errorf("serve HTTP on %s: %w", l.Addr(), err)
	}
	return <-stopped
}
