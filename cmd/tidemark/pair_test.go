package main

import (
	"bytes"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestTwoSites runs the scripts that talk to two sites, at $EAST and $WEST.
func TestTwoSites(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it runs two sites")
	}
	east := startServe(t, "--data", t.TempDir(), "--site", "east", "--node", "e1")
	west := startServe(t, "--data", t.TempDir(), "--site", "west", "--node", "w1")
	t.Run("scripts", func(t *testing.T) { // returns when all of them have ended
		testscript.Run(t, scripts("pair", map[string]string{
			"EAST": east.values["nats"], "WEST": west.values["nats"], "EAST_SOCKET": east.socket,
		}))
	})
	for _, s := range []*serving{east, west} {
		if code := s.stop(t); code != 0 {
			t.Errorf("serve ended with %d: %s", code, s.log.String())
		}
	}
}

// until PATTERN COMMAND… runs a command until it succeeds and prints what matches; with !
// before PATTERN, until it prints nothing that does.
func until(ts *testscript.TestScript, _ bool, args []string) {
	text, absent := strings.CutPrefix(args[0], "!")
	pattern, err := regexp.Compile("(?m)" + text)
	ts.Check(err)
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(testTime); ; <-tick.C {
		command := exec.Command(path, args[2:]...)
		command.Dir, command.Env = ts.MkAbs("."), append(command.Environ(), "TIDEMARK_NATS_URL="+ts.Getenv("TIDEMARK_NATS_URL"))
		var out, messages bytes.Buffer
		command.Stdout, command.Stderr = &out, &messages
		err := command.Run()
		if err == nil && pattern.Match(out.Bytes()) != absent {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("in vain: %v: %s%s", err, out.String(), messages.String())
		}
	}
}
