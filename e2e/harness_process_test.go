package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tidemark/internal/api"
)

const (
	stopTime = 60 * time.Second
	logShown = 6 << 10 // bytes of a log that a failed test prints
)

// process is one child: `tidemark serve` as a rule.
type process struct {
	name  string
	log   string // file that holds its stderr, of all its starts
	cmd   *exec.Cmd
	out   readyLine
	ended chan struct{} // closed when it was reaped; then err says how it ended
	err   error
}

// startProcess starts the program under test, by a whole command. It is killed, if it still runs, when the
// test ends; its log is judged then, and printed if the test failed.
func startProcess(t testing.TB, name, log string, command ...string) *process {
	t.Helper()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{name: name, log: log, ended: make(chan struct{})}
	p.out.found = make(chan string, 1)
	p.cmd = exec.Command(command[0], command[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, out
	p.cmd.SysProcAttr = childAttributes()
	started := make(chan error)
	go func() {
		// Pdeathsig is about the thread that started the child: it stays until the end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
		_ = out.Close() // the child wrote it
		close(p.ended)
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	t.Cleanup(func() { p.kill() })
	return p
}

// readyLine is a writer that finds the line which starts with "ready".
type readyLine struct {
	mu    sync.Mutex
	text  bytes.Buffer
	found chan string
	told  bool
}

// Write implements io.Writer.
func (r *readyLine) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text.Write(p)
	for line := range strings.Lines(r.text.String()) {
		if !r.told && strings.HasPrefix(line, "ready") && strings.HasSuffix(line, "\n") {
			r.told = true
			r.found <- strings.TrimSpace(line)
		}
	}
	return len(p), nil
}

func (r *readyLine) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// awaitReady returns the ready line as its KEY=VALUE pairs.
func (p *process) awaitReady(t testing.TB) map[string]string {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case line := <-p.out.found:
		values := map[string]string{}
		for field := range strings.FieldsSeq(line) {
			if key, value, ok := strings.Cut(field, "="); ok {
				values[key] = value
			}
		}
		return values
	case <-p.ended:
		t.Fatalf("%s ended before it was ready: %v\n%s", p.name, p.err, p.lastWords())
	case <-limit.C:
		t.Fatalf("%s is not ready within %s\n%s", p.name, patience, p.lastWords())
	}
	return nil
}

// kill ends the process as SIGKILL does, and reaps it.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // a stopped one is killed as well; harmless
	_ = p.cmd.Process.Kill()                  // an error says that it has ended
	<-p.ended
}

// stop asks the process to end and returns its exit code.
func (p *process) stop(t testing.TB) int {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	return p.exitCode(t)
}

// exitCode waits for the end of the process.
func (p *process) exitCode(t testing.TB) int {
	t.Helper()
	limit := time.NewTimer(stopTime)
	defer limit.Stop()
	select {
	case <-p.ended:
	case <-limit.C:
		t.Fatalf("%s does not end within %s\n%s", p.name, stopTime, p.lastWords())
	}
	return codeOf(t, p.err)
}

func codeOf(t testing.TB, err error) int {
	t.Helper()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	t.Fatal(err)
	return 0
}

func (p *process) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("signal %s to %s: %v", s, p.name, err)
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) lastWords() string { return tailOf(p.log) }

func tailOf(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("--- the end of %s\n%s", filepath.Base(file), text[max(0, len(text)-logShown):])
}

// judgeLog fails the test if a log says that the program is broken, and prints the log
// of a test that failed.
func judgeLog(t testing.TB, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
		return
	}
	for _, line := range refusedByNATS(string(text)) {
		t.Errorf("%s: %s", filepath.Base(file), line)
	}
	for _, bad := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: ", "impossible transition"} {
		if at := bytes.Index(text, []byte(bad)); at >= 0 {
			t.Errorf("%s says %q:\n%s", filepath.Base(file), bad, text[at:min(len(text), at+logShown)])
		}
	}
	if t.Failed() {
		t.Log(tailOf(file))
	}
}

// refusedByNATS returns the lines of a log which say that somebody wanted what its user may not
// do: a grant is too narrow, or somebody oversteps. Not the first requests of a peer about a
// directory: it may come before the other site's gate has read that there is one, and asks
// again. A grant that is too narrow for them would let nobody follow.
func refusedByNATS(log string) (lines []string) {
	for line := range strings.Lines(log) {
		first := func(request string) bool { return strings.Contains(line, "."+request+`\"`) }
		switch {
		case !strings.Contains(strings.ToLower(line), "permissions violation"):
		case strings.Contains(line, "tidemark.api.holder.") && slices.ContainsFunc([]string{api.HistoryRead, api.SyncBegin, api.DirectoryStatus}, first):
		default:
			lines = append(lines, line)
		}
	}
	return lines
}

// pause stops the process as SIGSTOP does: to everybody else it hangs.
func (p *process) pause() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }

// resume lets a paused process go on.
func (p *process) resume() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }
