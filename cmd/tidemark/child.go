package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"tidemark/internal/fault"
)

// childStopTime is how long a site of the demo may take to stop before it is killed.
const childStopTime = 45 * time.Second

// child is a process that this one started. It dies with this one.
type child struct {
	process *os.Process
	log     string        // path of what it writes to stderr
	ready   chan string   // its line that starts with "ready"
	ended   chan struct{} // closed when it was reaped; then err says how it ended
	err     error
}

// startChild runs a command of this program. Its stderr goes to the end of a file.
func startChild(executable string, args []string, log string) (*child, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	c := &child{log: log, ready: make(chan string, 1), ended: make(chan struct{})}
	cmd := exec.Command(executable, args...) //nolint:noctx // its end is asked for by name, see stop and kill
	cmd.Stdout, cmd.Stderr = &readyLine{found: c.ready}, out
	cmd.SysProcAttr = childAttributes()
	started := make(chan error)
	go func() {
		// The kernel ends the child when the thread that started it is gone, so that
		// thread stays here until the child was reaped.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		c.process = cmd.Process
		started <- err
		if err == nil {
			c.err = cmd.Wait()
		}
		_ = out.Close() // the child's log, which it has written
		close(c.ended)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", executable, err)
	}
	return c, nil
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
	if r.told {
		return len(p), nil
	}
	r.text.Write(p)
	for line := range strings.Lines(r.text.String()) {
		if strings.HasPrefix(line, "ready") && strings.HasSuffix(line, "\n") {
			r.told = true
			r.found <- strings.TrimSpace(line)
			break
		}
	}
	return len(p), nil
}

// awaitReady returns the child's ready line as its KEY=VALUE pairs.
func (c *child) awaitReady(ctx context.Context) (map[string]string, error) {
	select {
	case line := <-c.ready:
		values := map[string]string{}
		for field := range strings.FieldsSeq(line) {
			if key, value, ok := strings.Cut(field, "="); ok {
				values[key] = value
			}
		}
		return values, nil
	case <-c.ended:
		return nil, fmt.Errorf("it ended with %v before it was ready: %s", c.err, c.lastWords()) //nolint:errorlint // it may be nil
	case <-ctx.Done():
		return nil, fault.New(fault.Timeout, "it is not ready: %s", c.lastWords())
	}
}

// lastWords returns the end of the child's log.
func (c *child) lastWords() string {
	const enough = 600
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return filepath.Base(c.log) + " ends with: " + oneLine(string(text[max(0, len(text)-enough):]))
}

// kill ends the child as a power cut to its process would, and reaps it.
func (c *child) kill() {
	_ = c.process.Kill() // an error says that it has ended
	<-c.ended
}

// stop asks the child to end, kills it when it does not, and returns how it ended.
func (c *child) stop() error {
	_ = c.process.Signal(os.Interrupt) // an error says that it has ended
	limit := time.NewTimer(childStopTime)
	defer limit.Stop()
	select {
	case <-c.ended:
		return c.err
	case <-limit.C:
		c.kill()
		return fmt.Errorf("it did not stop within %s", childStopTime)
	}
}
