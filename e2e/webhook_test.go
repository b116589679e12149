package e2e_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// hook is a program that is told of turns by HTTP, as its author would write it: with the
// standard library, from the description of Standard Webhooks and CloudEvents.
type hook struct {
	t      *testing.T
	secret []byte
	server *httptest.Server
	// answer is called with each post that is genuine, and returns the status.
	answer func(e cloudEvent) int

	mu     sync.Mutex
	events []cloudEvent
}

type cloudEvent struct {
	SpecVersion, ID, Source, Type, Subject, DataContentType string
	Data                                                    struct{ What, Pool, Path, Node string }
}

func newHook(t *testing.T, secret []byte, answer func(e cloudEvent) int) *hook {
	h := &hook{t: t, secret: secret, answer: answer}
	h.server = httptest.NewServer(h)
	t.Cleanup(h.server.Close)
	return h
}

// ServeHTTP implements [http.Handler].
func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // who posts was killed
	}
	mac := hmac.New(sha256.New, h.secret)
	mac.Write([]byte(r.Header.Get("webhook-id") + "." + r.Header.Get("webhook-timestamp") + "." + string(body)))
	var e cloudEvent
	switch want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); {
	case r.Header.Get("webhook-signature") != want:
		h.t.Errorf("signature %q, want %q", r.Header.Get("webhook-signature"), want)
	case json.Unmarshal(body, &e) != nil || e.SpecVersion != "1.0" || e.ID != r.Header.Get("webhook-id"):
		h.t.Errorf("no CloudEvent: %s", body)
	}
	h.mu.Lock()
	h.events = append(h.events, e)
	h.mu.Unlock()
	w.WriteHeader(h.answer(e))
}

// got returns the events of a type, each try.
func (h *hook) got(kind string) []cloudEvent {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []cloudEvent
	for _, e := range h.events {
		if e.Type == kind {
			all = append(all, e)
		}
	}
	return all
}

// hookFlags are the flags of serve that tell hooks.
func hookFlags(t *testing.T, secret []byte, hooks ...*hook) []string {
	t.Helper()
	file := filepath.Join(shortDir(t), "secret")
	if err := os.WriteFile(file, []byte("whsec_"+base64.StdEncoding.EncodeToString(secret)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := []string{"--webhook-secret-file", file, "--webhook-allow-private"}
	for _, h := range hooks {
		flags = append(flags, "--webhook", h.server.URL+"/secret-path")
	}
	return flags
}

// deadLetter is a turn of which a webhook was not told, as the command line lists it.
type deadLetter struct {
	Webhook  string
	Sequence uint64
	Error    string
	Turn     struct{ What string }
}

// TestWebhooks: a program that is told by HTTP hears of a promotion in spite of a kill -9
// between the POST and its answer, with the same id; what another one refuses for good is
// listed and can be sent again.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	secret := []byte("0123456789abcdef0123456789abcdef")
	var first atomic.Pointer[process] // of the site; nil once it was killed
	var refuses sync.Mutex            // held while the second one does
	refused := true
	killing := newHook(t, secret, func(e cloudEvent) int {
		if e.Type == "tidemark.directory.promoted" {
			if p := first.Swap(nil); p != nil {
				p.kill()
			}
		}
		return http.StatusOK
	})
	refusing := newHook(t, secret, func(e cloudEvent) int {
		refuses.Lock()
		defer refuses.Unlock()
		if refused && e.Type == "tidemark.directory.demoted" {
			return http.StatusGone
		}
		return http.StatusOK
	})
	s := startSite(t, "east", hookFlags(t, secret, killing, refusing)...)
	first.Store(s.process)
	s.must("pool", "create", "vms")
	s.must("dir", "create", "vms/db")
	s.must("mirror", "demote", "vms/db")
	// It is killed before it has answered, or after.
	r := s.run("mirror", "promote", "vms/db", "--timeout", "5s")
	await(t, patience, "the site is killed", func() error {
		return unless(!s.running(), "it runs; %s", r)
	})
	s.start()
	const promoted = "tidemark.directory.promoted"
	await(t, patience, "told again after the kill", func() error {
		return unless(len(killing.got(promoted)) >= 2, "%d posts", len(killing.got(promoted)))
	})
	for _, e := range killing.got(promoted) {
		if told := killing.got(promoted)[0]; e.ID != told.ID || e.Subject != "vms/db" || e.Data.Path != "/db" {
			t.Errorf("told of %+v, and of %+v", told, e)
		}
	}

	const demoted = "tidemark.directory.demoted"
	var letters []deadLetter
	await(t, patience, "a letter is dead", func() error {
		letters = query[[]deadLetter](s, "webhook", "dead", "list")
		return unless(len(letters) > 0, "there is none")
	})
	if len(letters) != 1 || letters[0].Error != "410 Gone" || letters[0].Turn.What != "demoted" {
		t.Fatalf("dead letters %+v", letters)
	}
	before := len(refusing.got(demoted)) // more than one if the kill came between a POST and its note
	if r := s.run("webhook", "dead", "retry", "-o", "json", "nonsense"); r.code != 2 {
		t.Errorf("a letter of no name: %s", r)
	}
	if r := s.run("webhook", "dead", "retry", "-o", "json", letters[0].Webhook+"/1000000"); r.code != 3 || r.problem(t).Code != "not_found" {
		t.Errorf("no letter: %s", r)
	}
	refuses.Lock()
	refused = false
	refuses.Unlock()
	s.must("webhook", "dead", "retry", "--all")
	await(t, patience, "sent again", func() error {
		n := len(refusing.got(demoted))
		return unless(n > before, "%d posts, as before", n)
	})
	await(t, patience, "both webhooks work", func() error {
		text := s.must("webhook", "list")
		return unless(strings.Count(text, "working") == 2, "webhooks:\n%s", text)
	})
	log, err := os.ReadFile(s.process.log)
	if err != nil {
		t.Fatal(err)
	}
	if text := s.must("events") + string(log); strings.Contains(text, "secret-path") || strings.Contains(text, base64.StdEncoding.EncodeToString(secret)) {
		t.Error("a URL or the secret stands in a stream or in the log")
	}
}

// TestWebhookFlags: what would tell nobody, or too many, is refused at the start.
func TestWebhookFlags(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	good, open, bad := filepath.Join(dir, "good"), filepath.Join(dir, "open"), filepath.Join(dir, "bad")
	for file, text := range map[string]string{good: "whsec_" + strings.Repeat("QUJD", 8), open: "whsec_" + strings.Repeat("QUJD", 8), bad: "secret"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for says, flags := range map[string][]string{
		"--webhook-secret-file":       {"--webhook", "https://hooks.example.com/"},
		"no such file":                {"--webhook", "https://hooks.example.com/", "--webhook-secret-file", filepath.Join(dir, "none")},
		"can be read by everybody":    {"--webhook", "https://hooks.example.com/", "--webhook-secret-file", open},
		"is no secret":                {"--webhook", "https://hooks.example.com/", "--webhook-secret-file", bad},
		"is not encrypted":            {"--webhook", "http://hooks.example.com/", "--webhook-secret-file", good},
		"is no public address":        {"--webhook", "https://192.168.0.1/", "--webhook-secret-file", good},
		"given twice":                 {"--webhook", "https://hooks.example.com/", "--webhook", "https://hooks.example.com/", "--webhook-secret-file", good},
		"it must be more than zero":   {"--webhook", "https://hooks.example.com/", "--webhook-secret-file", good, "--webhook-give-up", "0s"},
		"scheme \"ftp\": it is https": {"--webhook", "ftp://hooks.example.com/", "--webhook-secret-file", good},
	} {
		r := runCommand(t, nil, append([]string{"serve", "--data", filepath.Join(dir, "data"), "-o", "json"}, flags...)...)
		if e := r.problem(t); r.code != 2 || !strings.Contains(e.Message, says) {
			t.Errorf("want a refusal that says %q: %s", says, r)
		}
	}
}
