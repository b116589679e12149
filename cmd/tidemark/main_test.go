package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tidemark/internal/sitetest"
)

const testTime = sitetest.Patience

// TestMain lets scripts, and the demo, run this test binary as tidemark.
func TestMain(m *testing.M) {
	if err := sitetest.EndAtOnce(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	testscript.Main(m, map[string]func(){"tidemark": main})
}

// scriptCommands adds commands to the scripts: `exits CODE COMMAND…` runs a command and
// demands its exit code; [until] waits.
func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"until": until,
		"exits": func(ts *testscript.TestScript, _ bool, args []string) {
			want, err := strconv.Atoi(args[0])
			ts.Check(err)
			got := 0
			if err := ts.Exec(args[1], args[2:]...); err != nil {
				var exit *exec.ExitError
				if !errors.As(err, &exit) {
					ts.Fatalf("%v", err)
				}
				got = exit.ExitCode()
			}
			if got != want {
				ts.Fatalf("exit code %d, want %d", got, want)
			}
		},
	}
}

// scripts are those of a folder of testdata, with variables of their environment.
func scripts(folder string, variables map[string]string) testscript.Params {
	return testscript.Params{
		Dir:  filepath.Join("testdata", folder),
		Cmds: scriptCommands(),
		Setup: func(env *testscript.Env) error {
			env.Setenv(sitetest.RaceVariable, os.Getenv(sitetest.RaceVariable))
			for name, value := range variables {
				env.Setenv(name, value)
			}
			return nil
		},
	}
}

// TestWithoutASite runs the scripts that need no server.
func TestWithoutASite(t *testing.T) {
	testscript.Run(t, scripts("alone", nil))
}

// TestCommands runs the scripts that talk to a site.
func TestCommands(t *testing.T) {
	site := startServe(t, "--data", t.TempDir(), "--site", "east", "--node", "n1")
	t.Run("scripts", func(t *testing.T) { // returns when all of them have ended
		testscript.Run(t, scripts("site", map[string]string{"TIDEMARK_NATS_URL": site.values["nats"]}))
	})
	if code := site.stop(t); code != 0 {
		t.Errorf("serve ended with %d: %s", code, site.log.String())
	}
}

// TestDemo is the product's main job, with nothing to prepare.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it runs two sites")
	}
	testscript.Run(t, scripts("demo", nil))
}

// serving is a `tidemark serve` that runs inside the test.
type serving struct {
	values map[string]string // of its ready line
	socket string
	log    *lockedBuffer
	cancel context.CancelFunc
	ready  chan string // its first line
	rest   chan string // what it prints after that
	ended  chan struct{}
	code   int // once ended
}

// lockedBuffer is a log that several goroutines write and the test reads.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// startServe runs serve on free ports and returns when it is ready.
func startServe(t testing.TB, args ...string) *serving {
	t.Helper()
	s := launchServe(t, args...)
	select {
	case line := <-s.ready:
		if !strings.HasPrefix(line, "ready ") {
			t.Fatalf("serve said %q; its log: %s", line, s.log)
		}
		for field := range strings.FieldsSeq(line) {
			if key, value, ok := strings.Cut(field, "="); ok {
				s.values[key] = value
			}
		}
	case <-time.After(testTime):
		t.Fatalf("serve is not ready; its log: %s", s.log)
	}
	return s
}

// launchServe runs serve on free ports.
func launchServe(t testing.TB, args ...string) *serving {
	t.Helper()
	dir, err := os.MkdirTemp("", "tm") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &serving{
		values: map[string]string{}, socket: filepath.Join(dir, "nbd"), log: &lockedBuffer{}, cancel: cancel,
		ready: make(chan string, 1), rest: make(chan string, 1), ended: make(chan struct{}),
	}
	all := append([]string{"serve", "--http", "127.0.0.1:0", "--nbd", unixPrefix + s.socket}, args...)
	if !strings.Contains(strings.Join(args, " "), "--nats-") {
		all = append(all, "--nats-listen", "127.0.0.1:0")
	}
	out, in := io.Pipe()
	go func() {
		s.code = runCommand(ctx, all, strings.NewReader(""), in, s.log)
		_ = in.Close()
		close(s.ended)
	}()
	go func() {
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n')
		s.ready <- line
		rest, _ := io.ReadAll(r)
		s.rest <- string(rest)
	}()
	t.Cleanup(func() {
		s.stop(t)
		_ = os.RemoveAll(dir)
	})
	return s
}

// stop ends the process as a signal would, and returns its exit code.
func (s *serving) stop(t testing.TB) int {
	t.Helper()
	s.cancel()
	return s.wait(t)
}

func (s *serving) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-s.ended:
		return s.code
	case <-time.After(testTime):
		t.Fatalf("serve does not end; its log: %s", s.log)
		return -1
	}
}

// tidemark runs a command inside the test.
func tidemark(t testing.TB, in string, args ...string) (code int, out, messages string) {
	t.Helper()
	var o, m bytes.Buffer
	code = runCommand(t.Context(), args, strings.NewReader(in), &o, &m)
	return code, o.String(), m.String()
}
