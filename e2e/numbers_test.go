package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A load of the comparison, and what is read off its report.
type comparison struct {
	name   string
	args   string
	figure func(fioJob) float64
	unit   string
	// more is true where a greater figure is better.
	more bool
}

type fioJob struct {
	Write struct {
		IOPS    float64 `json:"iops"`
		Latency struct {
			Mean float64 `json:"mean"`
		} `json:"lat_ns"`
	} `json:"write"`
	Sync struct {
		Latency struct {
			Mean float64 `json:"mean"`
		} `json:"lat_ns"`
	} `json:"sync"`
}

func comparisons() []comparison {
	iops := func(j fioJob) float64 { return j.Write.IOPS }
	pair := func(j fioJob) float64 { return (j.Write.Latency.Mean + j.Sync.Latency.Mean) / 1e3 }
	return []comparison{
		{"4 KiB random write, depth 32", "--bs=4k --iodepth=32", iops, "writes/s", true},
		{"4 KiB random write and flush, depth 1", "--bs=4k --iodepth=1 --fsync=1", pair, "us", false},
	}
}

// TestNumbers measures the product against qemu-nbd (its default cache) on a raw file, in
// turn and over the same kind of socket, and prints medians. It needs a quiet machine, so
// it runs only when TIDEMARK_NUMBERS says how many rounds:
//
//	TIDEMARK_NUMBERS=5 go test -run TestNumbers -v ./e2e
func TestNumbers(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("TIDEMARK_NUMBERS"))
	if err != nil {
		t.Skip("set TIDEMARK_NUMBERS to the number of rounds to measure")
	}
	need(t, "fio", "qemu-nbd")
	s := startSite(t, "east")
	s.createImage("vms/disk", "4GiB")
	raw := rawServer(t)
	for _, c := range comparisons() {
		var ours, theirs, ratios []float64
		for range rounds {
			b := c.measure(t, raw)
			a := c.measure(t, s.uri("vms/disk"))
			ours, theirs, ratios = append(ours, a), append(theirs, b), append(ratios, a/b)
		}
		t.Logf("%s: %.0f %s, qemu-nbd %.0f: ratio %.2f (%.2f)", c.name, middle(ours), c.unit, middle(theirs), middle(ratios), ratios)
	}
}

func middle(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

func (c comparison) measure(t *testing.T, uri string) float64 {
	t.Helper()
	args := strings.Fields("--name=numbers --ioengine=nbd --rw=randwrite --size=4G --time_based --runtime=5 " +
		"--norandommap --randrepeat=0 --output-format=json " + c.args)
	out := runTool(t, t.TempDir(), "fio", append(args, "--uri="+uri)...)
	var report struct {
		Jobs []fioJob `json:"jobs"`
	}
	if err := json.Unmarshal([]byte(out[strings.IndexByte(out, '{'):]), &report); err != nil || len(report.Jobs) != 1 {
		t.Fatalf("fio: %v\n%s", err, out)
	}
	return c.figure(report.Jobs[0])
}

// rawServer runs qemu-nbd on a raw file and returns its address.
func rawServer(t *testing.T) string {
	t.Helper()
	dir := shortDir(t)
	disk, socket := filepath.Join(dir, "raw"), filepath.Join(dir, "nbd")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 4<<30); err != nil {
		t.Fatal(err)
	}
	path, _ := toolPath("qemu-nbd")
	cmd := exec.Command(path, "-t", "-e", "32", "-x", "raw", "-f", "raw", "-k", socket, disk)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // ours, by its pid
		_ = cmd.Wait()
	})
	await(t, patience, "qemu-nbd listens", func() error {
		_, err := os.Stat(socket)
		return err
	})
	return "nbd+unix:///raw?socket=" + socket
}
