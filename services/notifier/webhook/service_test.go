package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
)

func failing(code int) func(int, http.ResponseWriter, *http.Request) {
	return func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestDelivery(t *testing.T) {
	r := newRig(t)
	r.note("before it was configured")
	e := newEndpoint(t, nil)
	s, _ := r.start(nil, e.url)
	seq := r.note("one")
	// What nobody can read is passed over.
	if err := r.site.Bus.Conn().PublishMsg(&nats.Msg{Subject: "tidemark.lifecycle.x.y", Data: []byte("no note")}); err != nil {
		t.Fatal(err)
	}
	r.note("two", "three")
	e.await("one", "two", "three")
	p := e.got()[0]
	unix, err := strconv.ParseInt(p.timestamp, 10, 64)
	if err != nil || time.Since(time.Unix(unix, 0)) > time.Minute {
		t.Errorf("timestamp %q", p.timestamp)
	}
	if p.id != EventID(seq) || p.contentType != ContentType {
		t.Errorf("id %q, content type %q", p.id, p.contentType)
	}
	if want := Signature(s.workers[0].poster.secrets, p.id, time.Unix(unix, 0), p.body); p.signature != want {
		t.Errorf("signature %q, want %q", p.signature, want)
	}
	sitetest.Eventually(t, "counted", func() bool { return r.metric("tidemark_webhook_deliveries_total") == 3 })
}

// TestRetries: a failure is tried again with the same id, and nothing overtakes it.
func TestRetries(t *testing.T) {
	r := newRig(t)
	e := newEndpoint(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		switch n {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		case 2:
			panic(http.ErrAbortHandler) // the connection is cut
		case 3:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	r.start(nil, e.url)
	r.note("one", "two")
	e.await("one", "one", "one", "one", "two")
	got := e.got()
	for _, p := range got[1:4] {
		if p.id != got[0].id {
			t.Errorf("another id: %q, then %q", got[0].id, p.id)
		}
	}
	if waited := got[3].at.Sub(got[2].at); waited < time.Second {
		t.Errorf("Retry-After of a second: tried again after %s", waited)
	}
	if n := r.metric("tidemark_webhook_failures_total"); n != 3 {
		t.Errorf("%v failures", n)
	}
}

// TestOneDeadEndpoint delays no other: not one that hangs, not one that answers without
// end, not one that nobody serves.
func TestOneDeadEndpoint(t *testing.T) {
	r := newRig(t)
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	hangs := newEndpoint(t, func(_ int, _ http.ResponseWriter, req *http.Request) {
		select {
		case <-req.Context().Done():
		case <-ended:
		}
	})
	var sent atomic.Int64
	floods := newEndpoint(t, func(_ int, w http.ResponseWriter, req *http.Request) {
		block := make([]byte, 64<<10)
		for req.Context().Err() == nil {
			n, err := w.Write(block)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	closed := httptest.NewServer(nil)
	closed.Close()
	works := newEndpoint(t, nil)
	s, _ := r.start(func(s *Service) {
		for _, w := range s.workers {
			w.poster.time = 3 * time.Second
		}
	}, hangs.url, floods.url, closed.URL, works.url)
	r.note("one", "two", "three")
	works.await("one", "two", "three")
	floods.await("one", "two", "three")
	if n := sent.Load(); n > 64<<20 {
		t.Errorf("%d bytes of answers were taken", n)
	}
	sitetest.Eventually(t, "a time-out", func() bool { return len(hangs.got()) > 1 })
	hooks, err := s.list(t.Context(), api.Nothing{})
	if err != nil || len(hooks) != 4 {
		t.Fatalf("%+v, %v", hooks, err)
	}
	for i, stuck := range []bool{true, false, true, false} {
		if h := hooks[i]; (h.Backlog == 3) != stuck || (h.Failing != "") != stuck || !h.Configured {
			t.Errorf("webhook %d: %+v", i, h)
		}
	}
}

// TestDeadLetters: what is refused is given up, told, and can be sent again.
func TestDeadLetters(t *testing.T) {
	r := newRig(t)
	e := newEndpoint(t, failing(http.StatusBadRequest))
	s, _ := r.start(nil, e.url)
	seq := r.note("one")
	e.await("one", "one", "one")
	letters := func(want int) []api.DeadLetter {
		t.Helper()
		var all []api.DeadLetter
		sitetest.Eventually(t, "dead letters", func() bool {
			var err error
			all, err = s.dead(t.Context(), api.Nothing{})
			return err == nil && len(all) == want
		})
		return all
	}
	dead := letters(1)[0]
	if dead.Sequence != seq || dead.Tries != 3 || dead.Error != "400 Bad Request" || dead.Turn.Detail != "one" || strings.Contains(dead.Host, "/") {
		t.Errorf("%+v", dead)
	}
	if n := r.metric("tidemark_webhook_dead_letters"); n != 1 {
		t.Errorf("%v dead letters are counted", n)
	}
	e.answers(failing(http.StatusGone)) // is believed at once
	r.note("two")
	letters(2)

	e.answers(nil)
	if _, err := s.retry(t.Context(), api.Letters{Webhook: dead.Webhook, Sequence: 999}); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("of no letter: %v", err)
	}
	if sent, err := s.retry(t.Context(), api.Letters{Webhook: dead.Webhook, Sequence: seq}); err != nil || len(sent) != 1 {
		t.Errorf("%+v, %v", sent, err)
	}
	e.await("one", "one", "one", "two", "one")
	if got := e.got(); got[4].id != got[0].id {
		t.Errorf("sent again as %q, not as %q", got[4].id, got[0].id)
	}
	letters(1)
	if sent, err := s.retry(t.Context(), api.Letters{}); err != nil || len(sent) != 1 {
		t.Errorf("%+v, %v", sent, err)
	}
	e.await("one", "one", "one", "two", "one", "two")
	letters(0)
	if sent, err := s.retry(t.Context(), api.Letters{}); err != nil || len(sent) != 0 {
		t.Errorf("again: %+v, %v", sent, err)
	}
}

// TestLettersOfAWebhookThatIsGone are listed, and not lost by being sent again to nobody.
func TestLettersOfAWebhookThatIsGone(t *testing.T) {
	r := newRig(t)
	gone := newEndpoint(t, failing(http.StatusGone))
	s, stop := r.start(nil, gone.url)
	r.note("one")
	sitetest.Eventually(t, "a dead letter", func() bool { return len(s.letters.list()) == 1 })
	stop()
	s, _ = r.start(nil)
	hooks, err := s.list(t.Context(), api.Nothing{})
	if err != nil || len(hooks) != 1 || hooks[0].Configured || hooks[0].Dead != 1 {
		t.Fatalf("%+v, %v", hooks, err)
	}
	if _, err := s.retry(t.Context(), api.Letters{Webhook: hooks[0].Webhook}); fault.CodeOf(err) != fault.NotReady {
		t.Errorf("sent again: %v", err)
	}
	if sent, err := s.retry(t.Context(), api.Letters{}); err != nil || len(sent) != 0 {
		t.Errorf("all sent again: %+v, %v", sent, err)
	}
	if n := len(s.letters.list()); n != 1 {
		t.Errorf("%d dead letters are left", n)
	}
	if dropped, err := s.discard(t.Context(), api.Letters{}); err != nil || len(dropped) != 1 {
		t.Errorf("discarded: %+v, %v", dropped, err)
	}
	sitetest.Eventually(t, "no dead letter", func() bool { return len(s.letters.list()) == 0 })
	if hooks, err := s.list(t.Context(), api.Nothing{}); err != nil || len(hooks) != 0 {
		t.Errorf("%+v, %v", hooks, err)
	}
}

// TestRestart: what was accepted is not sent again, what was under way is, and what was
// noted while nobody ran is not lost.
func TestRestart(t *testing.T) {
	r := newRig(t)
	hold := make(chan struct{})
	e := newEndpoint(t, func(n int, _ http.ResponseWriter, req *http.Request) {
		if n == 2 {
			close(hold)
			<-req.Context().Done()
		}
	})
	_, stop := r.start(nil, e.url)
	r.note("one", "two")
	<-hold
	stop()
	r.note("three")
	r.start(nil, e.url)
	e.await("one", "two", "two", "three")
	if got := e.got(); got[1].id != got[2].id {
		t.Errorf("another id: %q, then %q", got[1].id, got[2].id)
	}
}

// TestTwoNotifiers share the work: nothing is sent twice, and the order is kept.
func TestTwoNotifiers(t *testing.T) {
	r := newRig(t)
	e := newEndpoint(t, nil)
	r.start(nil, e.url)
	r.start(nil, e.url)
	var want []string
	for i := range 40 {
		want = append(want, strconv.Itoa(i))
	}
	r.note(want...)
	e.await(want...)
}

// TestNothingPrivate: no connection is made to this host, by whatever name, and by no
// redirect.
func TestNothingPrivate(t *testing.T) {
	r := newRig(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections atomic.Int64
	server := &http.Server{ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	private := "http://localhost:" + port + "/"
	s, _ := r.start(func(s *Service) {
		for _, w := range s.workers {
			w.poster.client = newClient(false)
		}
	}, "http://127.0.0.1:"+port+"/", private)
	redirects := newEndpoint(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", private)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	other, _ := r.start(nil, redirects.url)
	r.note("one")
	sitetest.Eventually(t, "all are given up", func() bool { return len(s.letters.list()) == 3 && len(other.letters.list()) == 3 })
	for _, d := range s.letters.list() {
		if want := map[bool]string{true: "307 Temporary Redirect", false: "is no public address"}[strings.HasSuffix(redirects.url, d.Host+"/hook")]; !strings.Contains(d.Error, want) {
			t.Errorf("%s: %q, want %q", d.Host, d.Error, want)
		}
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
	redirects.await("one", "one", "one")
}

// TestCertificates: who cannot show one that is trusted is told nothing.
func TestCertificates(t *testing.T) {
	r := newRig(t)
	e := &endpoint{t: t}
	server := httptest.NewUnstartedServer(e)
	server.Config.ErrorLog = nil
	server.StartTLS()
	t.Cleanup(server.Close)
	s, stop := r.start(nil, server.URL)
	r.note("one")
	sitetest.Eventually(t, "a failure", func() bool { return r.metric("tidemark_webhook_failures_total") > 1 })
	if hooks, err := s.list(t.Context(), api.Nothing{}); err != nil || !strings.Contains(hooks[0].Failing, "certificate") {
		t.Errorf("%+v, %v", hooks, err)
	}
	stop()
	if n := len(e.got()); n != 0 {
		t.Errorf("%d deliveries to a server that nobody knows", n)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(server.Certificate())
	r.start(func(s *Service) {
		client := newClient(true)
		client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
		for _, w := range s.workers {
			w.poster.client = client
		}
	}, server.URL)
	e.await("one")
}

// TestErrorsHoldNoURL: what is stored and logged of a try does not repeat the URL, which
// may hold a secret.
func TestErrorsHoldNoURL(t *testing.T) {
	e, err := ParseEndpoint("http://127.0.0.1:1/secret?key=secret", true)
	if err != nil {
		t.Fatal(err)
	}
	p := &poster{client: newClient(false), endpoint: e, time: time.Second}
	o := p.post(t.Context(), "id", nil)
	if strings.Contains(o.String(), "secret") || !errors.As(o.Err, new(*BlockedError)) || !o.Refused() {
		t.Errorf("%v", o)
	}
}
