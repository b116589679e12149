package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"tidemark/internal/nbdclient"
)

// site is one site under test. It keeps its folder, addresses and flags over restarts.
type site struct {
	t      testing.TB
	name   string
	dir    string // for everything: data, sockets, logs
	nats   string // HOST:PORT
	http   string // HOST:PORT
	socket string // of the process that serves NBD
	flags  []string
	logs   []string
	within []string // what its processes are run by, if not directly
	creds  string   // file that commands come in with; empty: everybody is let in
	ca     string   // file with whom they trust; empty: whom the system trusts
	*process
}

// newSite makes a site that has not been started. flags are further flags of serve.
func newSite(t testing.TB, name string, flags ...string) *site {
	t.Helper()
	s := &site{t: t, name: name, dir: shortDir(t), nats: freePort(t), http: freePort(t), flags: flags}
	s.socket = filepath.Join(s.dir, "nbd")
	t.Cleanup(func() {
		for _, log := range s.logs {
			judgeLog(t, log)
		}
	})
	return s
}

// startSite founds a site and waits until it is ready.
func startSite(t testing.TB, name string, flags ...string) *site {
	t.Helper()
	s := newSite(t, name, flags...)
	s.start()
	return s
}

// shortDir returns a temporary folder whose path leaves room for the name of a socket.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a temporary folder: best effort
	return dir
}

// givenPorts are the addresses that freePort has given to a test of this process, which
// may not listen there yet.
var givenPorts sync.Map

// freePort returns an address on which nobody listens now. It lies below the ports that
// the kernel gives to outgoing connections, so that it stays free over a restart.
func freePort(t testing.TB) string {
	t.Helper()
	const lowest, highest, tries = 12000, 32000, 100
	for range tries {
		address := fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(highest-lowest))
		if _, given := givenPorts.LoadOrStore(address, true); given {
			continue
		}
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

func (s *site) url() string  { return "nats://" + s.nats }
func (s *site) data() string { return filepath.Join(s.dir, "data") }

// serve starts one process of the site with exactly these flags, besides the names.
func (s *site) serve(part string, flags ...string) *process {
	s.t.Helper()
	return s.serveAt(s.data(), part, flags...)
}

// serveAt is serve on another data folder.
func (s *site) serveAt(data, part string, flags ...string) *process {
	s.t.Helper()
	log := filepath.Join(s.dir, part+".log")
	if !slices.Contains(s.logs, log) {
		s.logs = append(s.logs, log)
	}
	args := append([]string{"serve", "--data", data, "--site", s.name, "--node", s.name + "-1"}, flags...)
	return startProcess(s.t, s.name+"/"+part, log, append(append(slices.Clone(s.within), tidemark), args...)...)
}

// launch starts the site as one process, and does not wait for it.
func (s *site) launch() *process {
	s.t.Helper()
	flags := []string{"--nats-listen", s.nats, "--nbd", "unix:" + s.socket, "--http", s.http}
	s.process = s.serve("serve", append(flags, s.flags...)...)
	return s.process
}

// start runs the site as one process and returns its ready line's values.
func (s *site) start() map[string]string {
	s.t.Helper()
	return s.launch().awaitReady(s.t)
}

// terminate stops the site in order; it must say that everything is safe.
func (s *site) terminate() {
	s.t.Helper()
	if code := s.stop(s.t); code != 0 {
		s.t.Fatalf("%s ended with exit code %d\n%s", s.name, code, s.lastWords())
	}
}

// result is what a command said.
type result struct {
	args           []string
	code           int
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("tidemark %s: exit code %d\nstdout: %sstderr: %s", strings.Join(r.args, " "), r.code, r.stdout, r.stderr)
}

// runCommand runs a command line of the program under test.
func runCommand(t testing.TB, stdin []byte, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, tidemark, args...)
	var out, messages bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &messages
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("tidemark %s hangs: %s", strings.Join(args, " "), messages.String())
	}
	r := result{args, codeOf(t, err), out.String(), messages.String()}
	for _, bad := range []string{"panic:", "goroutine ", "DATA RACE", "&{", "0xc0"} {
		if strings.Contains(r.stderr, bad) {
			t.Errorf("a message that is for nobody (%q): %s", bad, r)
		}
	}
	return r
}

// run runs a command against the site.
func (s *site) run(args ...string) result {
	s.t.Helper()
	return runCommand(s.t, nil, append([]string{"--nats-url", s.url(), "--creds", s.creds, "--nats-ca", s.ca, "--timeout", "60s"}, args...)...)
}

// must runs a command that is to succeed, and returns what it printed.
func (s *site) must(args ...string) string {
	s.t.Helper()
	r := s.run(args...)
	if r.code != 0 {
		s.t.Fatalf("at %s: %s", s.name, r)
	}
	return r.stdout
}

// mustUnused is must for a command that takes away what an NBD session has read: a session
// that the test has ended may seem to be open for a moment.
func (s *site) mustUnused(args ...string) {
	s.t.Helper()
	s.mustUnless("something is open", args...)
}

// mustUnless is must for a command that is refused as long as something is so.
func (s *site) mustUnless(what string, args ...string) {
	s.t.Helper()
	await(s.t, patience, strings.Join(args, " ")+" at "+s.name+": refused while "+what, func() error {
		r := s.run(args...)
		if r.code != 0 && r.code != exitRefused {
			s.t.Fatalf("at %s: %s", s.name, r)
		}
		return unless(r.code == 0, "%s", r)
	})
}

// refused runs a command that is to fail with an exit code and an error code.
func (s *site) refused(exit int, code string, args ...string) errorLine {
	s.t.Helper()
	r := s.run(append(args, "-o", "json")...)
	e := r.problem(s.t)
	if r.code != exit || e.Code != code {
		s.t.Errorf("want exit code %d and error %q: %s", exit, code, r)
	}
	return e
}

// errorLine is an error as -o json prints it.
type errorLine struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// problem reads the error of a command that ran with -o json: one line, nothing else.
func (r result) problem(t testing.TB) errorLine {
	t.Helper()
	var e struct {
		Error errorLine `json:"error"`
	}
	dec := json.NewDecoder(strings.NewReader(r.stderr))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil || strings.Count(r.stderr, "\n") != 1 || e.Error.Message == "" {
		t.Errorf("stderr is not one line of JSON with an error (%v): %s", err, r)
	}
	return e.Error
}

// query runs a command and reads its JSON.
func query[T any](s *site, args ...string) T {
	s.t.Helper()
	var v T
	out := s.must(append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		s.t.Fatalf("%s: %v in %s", strings.Join(args, " "), err, out)
	}
	return v
}

// try is query for a site that may not answer now.
func try[T any](s *site, args ...string) (T, error) {
	s.t.Helper()
	var v T
	r := runCommand(s.t, nil, append([]string{"--nats-url", s.url(), "--creds", s.creds, "--nats-ca", s.ca, "--timeout", "10s", "-o", "json"}, args...)...)
	if r.code != 0 {
		return v, fmt.Errorf("%s", r)
	}
	return v, json.Unmarshal([]byte(r.stdout), &v)
}

// createImage makes an image and, if need be, its pool.
func (s *site) createImage(name, size string, flags ...string) {
	s.t.Helper()
	pool, _, _ := strings.Cut(name, "/")
	if r := s.run("pool", "create", pool); r.code != 0 && r.code != 4 {
		s.t.Fatal(r)
	}
	s.must(append([]string{"image", "create", name, "--size", size}, flags...)...)
}

// dial opens an image over NBD; it may just be on its way to a node. The connection ends
// with the site, if nobody ends it before: a test that makes thousands keeps none of them.
func (s *site) dial(image string) *nbdclient.Conn {
	s.t.Helper()
	var conn *nbdclient.Conn
	awaitEvery(s.t, fastPoll, patience, "open "+image+" at "+s.name, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var err error
		conn, err = nbdclient.Dial(ctx, "unix", s.socket, image)
		return err
	})
	return conn
}

// hangUp closes a connection without a word.
func hangUp(c *nbdclient.Conn) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_ = c.Close(gone) // nothing is promised
}

// uri names an export for programs that take NBD URIs.
func (s *site) uri(image string) string { return "nbd+unix:///" + image + "?socket=" + s.socket }
