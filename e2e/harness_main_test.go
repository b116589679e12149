package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tidemark/internal/sitetest"
)

// longVariable makes the tests with a random course run for about that long.
const longVariable = "TIDEMARK_E2E_LONG"

// testsPerProcessor is how many tests run at a time for each processor, unless -parallel
// says otherwise.
const testsPerProcessor = 4

// tidemark is the path of the program under test. TestMain builds it.
var tidemark string

// TestMain builds the program once for all tests.
func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	if err := errors.Join(sitetest.SideBySide(testsPerProcessor), sitetest.EndAtOnce()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "tidemark-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary folder: best effort
	tidemark = filepath.Join(dir, "tidemark")
	args := []string{"build", "-o", tidemark}
	if sitetest.RaceDetector {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "tidemark/cmd/tidemark")...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build tidemark:", err)
		return 1
	}
	return m.Run()
}

// longRun returns how long a test with a random course should run, zero for its default.
func longRun(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv(longVariable)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", longVariable, err)
	}
	return d
}
