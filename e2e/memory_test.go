package e2e_test

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"tidemark/internal/sitetest"
)

// residentKiB reads how much memory a process has in use, and had at most.
func residentKiB(t *testing.T, p *process) (now, most int) {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.pid()))
	if err != nil {
		t.Skipf("no /proc on this system: %v", err)
	}
	defer func() { _ = f.Close() }() // only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		for key, value := range map[string]*int{"VmRSS:": &now, "VmHWM:": &most} {
			if rest, ok := strings.CutPrefix(lines.Text(), key); ok {
				if _, err := fmt.Sscan(rest, value); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return now, most
}

// TestIdleMemory measures a site with a hundred directories that nobody uses.
func TestIdleMemory(t *testing.T) {
	t.Parallel()
	if sitetest.RaceDetector {
		t.Skip("the race detector takes memory of its own")
	}
	const directories, limitKiB, idle = 100, 300 << 10, 10 * time.Second
	s := startSite(t, "east")
	s.must("pool", "create", "vms")
	began := time.Now()
	for i := range directories {
		s.must("image", "create", fmt.Sprintf("vms/d%03d/disk", i), "--size", "1GiB")
	}
	t.Logf("%d directories made in %s", directories, seconds(began))
	since := time.Now()
	await(t, patience, "it has been idle", func() error {
		return unless(time.Since(since) > idle, "%s", seconds(since))
	})
	now, most := residentKiB(t, s.process)
	t.Logf("%d idle directories: %d MiB resident, %d MiB at most", directories, now>>10, most>>10)
	if now > limitKiB {
		t.Errorf("%d MiB resident, more than %d", now>>10, limitKiB>>10)
	}
	began = time.Now()
	s.must("status")
	t.Logf("status took %s", seconds(began))
}
