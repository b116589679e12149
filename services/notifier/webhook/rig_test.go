package webhook

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark/events"
	"tidemark/internal/sitetest"
)

// post is a delivery as an endpoint got it.
type post struct {
	id, signature, timestamp, contentType string
	body                                  []byte
	at                                    time.Time
}

// endpoint is a server that keeps what it gets.
type endpoint struct {
	t   *testing.T
	url string

	mu     sync.Mutex
	posts  []post
	answer func(n int, w http.ResponseWriter, r *http.Request) // to the n-th post, from 1
}

func newEndpoint(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *endpoint {
	e := &endpoint{t: t, answer: answer}
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	e.url = s.URL + "/hook"
	return e
}

// ServeHTTP implements [http.Handler].
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost {
		e.t.Errorf("%s: %v", r.Method, err)
	}
	e.mu.Lock()
	h := r.Header
	e.posts = append(e.posts, post{
		h.Get(HeaderID), h.Get(HeaderSignature), h.Get(HeaderTimestamp), h.Get("Content-Type"), body, time.Now(),
	})
	n, answer := len(e.posts), e.answer
	e.mu.Unlock()
	if answer != nil {
		answer(n, w, r)
	}
}

func (e *endpoint) answers(f func(n int, w http.ResponseWriter, r *http.Request)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = f
}

func (e *endpoint) got() []post {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.posts)
}

// details returns the detail of the note in each post, in order.
func (e *endpoint) details() []string {
	var all []string
	for _, p := range e.got() {
		var event Event
		if err := json.Unmarshal(p.body, &event); err != nil {
			e.t.Errorf("%s: %v", p.body, err)
		}
		if p.id != event.ID {
			e.t.Errorf("post %s holds event %s", p.id, event.ID)
		}
		all = append(all, event.Data.Detail)
	}
	return all
}

func (e *endpoint) await(want ...string) {
	e.t.Helper()
	sitetest.Eventually(e.t, fmt.Sprintf("posts %q", want), func() bool { return len(e.got()) >= len(want) })
	if got := e.details(); !slices.Equal(got, want) {
		e.t.Errorf("posts %q, want %q", got, want)
	}
}

// rig is a site with notifiers that do nothing but deliver.
type rig struct {
	*testing.T
	site *sitetest.Site
	last *prometheus.Registry // of the service that was started last
}

func newRig(t *testing.T) *rig {
	t.Parallel()
	return &rig{T: t, site: sitetest.Start(t, "east")}
}

// quickly is a policy for tests: it retries at once, and gives up a refusal soon.
func quickly(s *Service) {
	s.policy = Policy{
		First: time.Millisecond, Last: 20 * time.Millisecond, GiveUp: time.Hour, Refusals: 3, RetryAfterMax: time.Minute,
	}
}

// start runs a service for some URLs, once it has its places in the streams.
func (r *rig) start(change func(*Service), urls ...string) (s *Service, stop func()) {
	r.Helper()
	cfg := Config{AllowPrivate: true, Secrets: []Secret{{make([]byte, secretBytesMin)}}}
	for _, u := range urls {
		e, err := ParseEndpoint(u, true)
		if err != nil {
			r.Fatal(err)
		}
		cfg.Endpoints = append(cfg.Endpoints, e)
	}
	r.last = prometheus.NewRegistry()
	s = New(Deps{Bus: r.site.Bus, Site: r.site.Node.Site, Log: r.site.Log, Metrics: r.last, Config: cfg})
	quickly(s)
	if change != nil {
		change(s)
	}
	stop = sitetest.Run(r, s.Run)
	for _, w := range s.workers {
		sitetest.Eventually(r, "a place in the stream", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.reader != nil
		})
	}
	return s, stop
}

// note stores notes in LIFECYCLE, and returns the sequence of the last one.
func (r *rig) note(details ...string) (seq uint64) {
	r.Helper()
	for _, d := range details {
		var err error
		seq, err = r.site.Bus.Publish(r.Context(), events.StreamLifecycle, &events.LifecycleNoted{
			Directory: "00000000000000aa", Pool: "vms", Path: "/db", Node: "n", What: events.Promoted, Detail: d,
			At: events.InstantOf(time.Now()),
		})
		if err != nil {
			r.Fatal(err)
		}
	}
	return seq
}

// metric returns the sum of a metric of the service that was started last.
func (r *rig) metric(name string) float64 {
	r.Helper()
	families, err := r.last.Gather()
	if err != nil {
		r.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}
