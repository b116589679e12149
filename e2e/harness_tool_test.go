package e2e_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// toolPackages names the Debian package of each program that is not ours.
func toolPackages() map[string]string {
	return map[string]string{
		"qemu-img": "qemu-utils", "qemu-io": "qemu-utils",
		"qemu-nbd": "qemu-utils", "nbdinfo": "libnbd-bin", "nbdcopy": "libnbd-bin",
		"nbdkit": "nbdkit", "nbd-client": "nbd-client", "fio": "fio",
		"mkfs.ext4": "e2fsprogs", "e2fsck": "e2fsprogs", "debugfs": "e2fsprogs",
		"ip": "iproute2", "ss": "iproute2", "chromium": "chromium",
	}
}

// need skips the test if a program is missing; in CI that is a failure, because nobody
// would notice.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := toolPath(tool); err == nil {
			continue
		}
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing: install the package %s", tool, toolPackages()[tool])
		}
		t.Skipf("SKIPPED: %s is missing: install the Debian package %s", tool, toolPackages()[tool])
	}
}

func toolPath(tool string) (string, error) {
	path, err := exec.LookPath(tool)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + tool)
	}
	return path, err
}

// try runs a program and returns all that it printed.
func tryTool(t *testing.T, dir, tool string, args ...string) (string, error) {
	t.Helper()
	path, err := toolPath(tool)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s %s hangs: %s", tool, strings.Join(args, " "), out)
	}
	return string(out), err
}

// run runs a program that is to succeed.
func runTool(t *testing.T, dir, tool string, args ...string) string {
	t.Helper()
	out, err := tryTool(t, dir, tool, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", tool, strings.Join(args, " "), err, out)
	}
	return out
}

// sameFile fails the test unless two files are equal.
func sameFile(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) {
		t.Errorf("%s and %s differ (%d and %d bytes)", filepath.Base(a), filepath.Base(b), len(x), len(y))
	}
}
