package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tidemark/internal/workload"
)

// TestASiteSurvivesItsDeath starts a site as the demo does, kills it, and starts it on
// what it left: its socket and its locks are in nobody's way.
func TestASiteSurvivesItsDeath(t *testing.T) {
	dir, err := os.MkdirTemp("", "tm") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	executable, err := exec.LookPath("tidemark") // this test binary, see TestMain
	if err != nil {
		t.Fatal(err)
	}
	s := &demoSite{name: "east", dir: filepath.Join(dir, "east"), executable: executable}
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	address := s.nats
	s.kill()
	if _, err := os.Stat(s.socket()); err != nil {
		t.Errorf("a killed process should leave its socket: %v", err)
	}
	if err := s.start(t.Context()); err != nil {
		t.Fatalf("after its death: %v", err)
	}
	if s.nats != address {
		t.Errorf("it listened on %s, and now on %s", address, s.nats)
	}
	if err := s.child.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-s.child.ended
	if s.child.err != nil {
		t.Errorf("SIGTERM ended it with %v: %s", s.child.err, s.child.lastWords())
	}
	if err := s.end(); err != nil {
		t.Errorf("ending what has ended: %v", err)
	}
}

func TestAChildThatDoesNotStartSaysWhy(t *testing.T) {
	executable, err := exec.LookPath("tidemark")
	if err != nil {
		t.Fatal(err)
	}
	c, err := startChild(executable, []string{"serve"}, filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.awaitReady(t.Context()); err == nil || !strings.Contains(err.Error(), "say where to keep the data") {
		t.Errorf("it said %v", err)
	}
}

func TestADemoWithAWrongImageFails(t *testing.T) {
	load := workload.New(workload.Config{Seed: 1, Images: 1, ImageBytes: 2 * workload.BlockSize, BlocksMax: 1})
	w, _ := load.Begin(0)
	load.Acknowledge(w, 0)
	judge := load.Verify()
	judge.Observe(0, 0, make([]byte, 2*workload.BlockSize))
	v := judge.Verdict()
	r := demoResult{West: checked(v, v.Prefix()), East: checked(v, v.Complete())}
	if !r.West.OK || r.West.MissingEntries != 1 || r.East.OK {
		t.Errorf("an empty image after one acknowledged write: %+v", r)
	}
	if err := r.failure(); err == nil || err.Error() != "east: 1 acknowledged writes (4096 bytes) are missing" {
		t.Errorf("the failure is %v", err)
	}
	var out bytes.Buffer
	c := &cli{out: &out}
	if err := c.show(r, r.table); err != nil || !strings.Contains(out.String(), "east holds:                  WRONG: 1 acknowledged") {
		t.Errorf("%v: %s", err, out.String())
	}
}
