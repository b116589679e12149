package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"path"
	"time"
)

const (
	// streamsMax bounds the browsers that follow at a time.
	streamsMax = 64
	// aliveAge is how often a stream says something at least.
	aliveAge = 5 * time.Second
	// writeTime is how long a browser may take to read what it is sent.
	writeTime = 10 * time.Second
	// contentPolicy lets the page load nothing but its own files, and run no script in it.
	contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

// Handler serves the page, the files that it loads and the stream of its changes.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /dashboard/stream", s.stream)
	mux.HandleFunc("GET /dashboard/{file}", s.file)
	return mux
}

func protect(h http.Header) {
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
}

func (s *Service) page(w http.ResponseWriter, r *http.Request) {
	html, err := s.renderer.whole(s.current(ParseQuery(r.URL.Query())))
	if err != nil {
		s.deps.Log.Error("page not made", "error", err)
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	protect(w.Header())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(html) // the browser is gone: nobody to tell
}

func (s *Service) file(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	text, ok := s.renderer.files[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	protect(w.Header())
	w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	w.Header().Set("Cache-Control", "max-age=3600") // the page names its version
	_, _ = w.Write(text)
}

// stream sends the page's parts whenever they change, until the browser goes or the service ends.
func (s *Service) stream(w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many browsers follow already: load the page again for news", http.StatusServiceUnavailable)
		return
	}
	protect(w.Header())
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // the server's would end the stream; where it cannot be set there is none
	if err := s.send(r.Context(), w, out, ParseQuery(r.URL.Query())); err != nil && r.Context().Err() == nil {
		s.deps.Log.Debug("stream ended", "error", err)
	}
}

// update is what a browser is told.
type update struct {
	Title string `json:"title"`
	HTML  string `json:"html"`
}

func (s *Service) send(ctx context.Context, w http.ResponseWriter, out *http.ResponseController, q Query) error {
	write := func(event string, data []byte) error {
		_ = out.SetWriteDeadline(time.Now().Add(writeTime)) // as above
		if _, err := fmt.Fprintf(w, "event: %s\nretry: 2000\ndata: %s\n\n", event, data); err != nil {
			return err
		}
		return out.Flush()
	}
	alive := time.NewTicker(aliveAge)
	defer alive.Stop()
	var sent string
	for {
		changed := s.changes()
		p := s.current(q)
		html, err := s.renderer.live(p)
		if err != nil {
			return err
		}
		if string(html) == sent {
			err = write("alive", []byte("{}"))
		} else {
			sent = string(html)
			var data []byte
			if data, err = json.Marshal(update{p.Verdict.Title + " – " + p.Site, sent}); err == nil {
				err = write("page", data)
			}
		}
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-alive.C:
		case <-s.ended:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}
