package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"tidemark/internal/sitetest"
)

// Memory that a site may hold under a writer, in KiB: what it takes idle, and twice
// (for the garbage collector) what waits to be applied, the NBD server's budget for
// requests and what JetStream caches.
const burdenedKiB = 1 << 20

// TestMemoryUnderPressure lets a client write faster than the disk takes it, one block at
// a time and many, small and large, for as long as TIDEMARK_PRESSURE says, and samples
// the memory of the site:
//
//	TIDEMARK_PRESSURE=5m go test -run TestMemoryUnderPressure -timeout 1h -v ./e2e
func TestMemoryUnderPressure(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("TIDEMARK_PRESSURE"))
	if err != nil {
		t.Skip("set TIDEMARK_PRESSURE to how long to write")
	}
	if sitetest.RaceDetector {
		t.Skip("the race detector takes memory of its own")
	}
	need(t, "fio")
	s := startSite(t, "east")
	s.createImage("vms/disk", "4GiB")
	shapes := []string{
		"--rw=randwrite --bs=4k --iodepth=32", "--rw=randwrite --bs=4k --iodepth=1", "--rw=write --bs=128k --iodepth=64",
		"--rw=randwrite --bsrange=512-1m --iodepth=64",
	}
	for _, shape := range shapes {
		seconds := max(1, int(length.Seconds())/len(shapes))
		runTool(t, t.TempDir(), "fio", strings.Fields(fmt.Sprintf("--name=pressure --ioengine=nbd --size=4G --time_based --runtime=%d "+
			"--norandommap --randrepeat=0 %s --uri=%s", seconds, shape, s.uri("vms/disk")))...)
		now, most := residentKiB(t, s.process)
		t.Logf("%s: %d MiB now, %d MiB at most so far", shape, now>>10, most>>10)
	}
	if _, most := residentKiB(t, s.process); most > burdenedKiB {
		t.Errorf("the site took %d MiB, more than %d", most>>10, burdenedKiB>>10)
	}
}
