package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const testTime = 60 * time.Second

// program is the path of the program, built as the container's recipe says.
var program string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tidemark-deploy-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary folder: best effort
	program = filepath.Join(dir, "tidemark")
	if err := buildAsContainer(program); err != nil {
		fmt.Fprintln(os.Stderr, "build tidemark:", err)
		return 1
	}
	return m.Run()
}

// accepts returns nil if the program takes these flags. A flag that is asked for help is
// read and not carried out.
func accepts(command ...string) error {
	var messages bytes.Buffer
	cmd := exec.Command(program, append(command, "--help")...)
	cmd.Stderr = &messages
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, messages.String())
	}
	return nil
}

func TestUnknownFlagsAreNoticed(t *testing.T) {
	if err := accepts("serve", "--data", "d", "--services", "policy"); err != nil {
		t.Error(err)
	}
	for _, wrong := range [][]string{{"serve", "--datum", "d"}, {"serve", "--timeout", "soon"}, {"serv"}} {
		if accepts(wrong...) == nil {
			t.Errorf("%q passes", wrong)
		}
	}
}

// stopTimes reads from the program's own help how long its parts may take to stop.
func stopTimes(t *testing.T) (nbd, service, nats time.Duration) {
	t.Helper()
	help, err := exec.Command(program, "serve", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`\(NBD (\d+)s, each service (\d+)s, NATS (\d+)s\)`).FindSubmatch(help)
	if m == nil {
		t.Fatalf("serve does not say how long its parts may take to stop:\n%s", help)
	}
	seconds := func(b []byte) time.Duration {
		n, err := strconv.Atoi(string(b))
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(n) * time.Second
	}
	return seconds(m[1]), seconds(m[2]), seconds(m[3])
}

// smallParts is more than the other parts of a process may take together: announcement,
// HTTP, answers about the log, bus.
const smallParts = 20 * time.Second

// patience is how long a process may need to stop that runs some services.
func patience(t *testing.T, services int, embedsNATS bool) time.Duration {
	t.Helper()
	nbd, service, nats := stopTimes(t)
	all := nbd + time.Duration(services)*service + smallParts
	if embedsNATS {
		all += nats
	}
	return all
}

// run is a process that a test started.
type run struct {
	cmd      *exec.Cmd
	messages bytes.Buffer
	ready    chan string
	ended    chan error
}

// start runs a command until the test ends.
func start(t *testing.T, cmd *exec.Cmd) *run {
	t.Helper()
	r := &run{cmd: cmd, ready: make(chan string, 1), ended: make(chan error, 1)}
	cmd.Stderr = &r.messages
	cmd.Stdout = firstLine(r.ready)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
	return r
}

// firstLine is a writer that passes on the first thing that is written.
type firstLine chan string

func (f firstLine) Write(p []byte) (int, error) {
	select {
	case f <- string(p):
	default:
	}
	return len(p), nil
}

// awaitReady returns the line by which serve says that it is ready.
func (r *run) awaitReady(t *testing.T) string {
	t.Helper()
	select {
	case line := <-r.ready:
		if !strings.HasPrefix(line, "ready ") {
			t.Fatalf("%s says %q", r.cmd, line)
		}
		return line
	case err := <-r.ended:
		t.Fatalf("%s ended: %v\n%s", r.cmd, err, &r.messages)
	case <-time.After(testTime):
		t.Fatalf("%s is not ready", r.cmd)
	}
	return ""
}

// stop ends a process as a supervisor does; it must say that everything is safe.
func (r *run) stop(t *testing.T) {
	t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-r.ended:
		if err != nil {
			t.Errorf("%s: %v\n%s", r.cmd, err, &r.messages)
		}
	case <-time.After(testTime):
		t.Errorf("%s does not stop", r.cmd)
	}
}

// valueOf finds KEY=VALUE in a ready line.
func valueOf(line, key string) string {
	for field := range strings.FieldsSeq(line) {
		if value, ok := strings.CutPrefix(field, key+"="); ok {
			return value
		}
	}
	return ""
}

// output runs a command to its end.
func output(t *testing.T, cmd *exec.Cmd) (string, error) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), err
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	t.Cleanup(cancel)
	return ctx
}
