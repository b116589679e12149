package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// measure is one row of the comparison, and what is read off fio's report.
type measure struct {
	name string
	args string
	unit string
	// wanted is the ratio to qemu-nbd that is aimed at; where a smaller figure is better
	// it is an upper bound. Zero: none is set.
	wanted float64
	figure func(fioJob) float64
}

type fioJob struct {
	Read  fioDirection `json:"read"`
	Write fioDirection `json:"write"`
	Sync  struct {
		Latency struct {
			Mean float64 `json:"mean"`
		} `json:"lat_ns"`
	} `json:"sync"`
}

type fioDirection struct {
	IOPS    float64 `json:"iops"`
	Total   float64 `json:"total_ios"`
	Latency struct {
		Mean float64 `json:"mean"`
	} `json:"lat_ns"`
}

const micros = 1e3 // nanoseconds

func measures() []measure {
	writes := func(j fioJob) float64 { return j.Write.IOPS }
	reads := func(j fioJob) float64 { return j.Read.IOPS }
	megabytes := func(j fioJob) float64 { return j.Write.IOPS * (128 << 10) / 1e6 }
	latency := func(j fioJob) float64 { return j.Write.Latency.Mean / micros }
	pair := func(j fioJob) float64 { return (j.Write.Latency.Mean + j.Sync.Latency.Mean) / micros }
	return []measure{
		{"4 KiB random write, depth 32", "--rw=randwrite --bs=4k --iodepth=32", "writes/s", 1, writes},
		{"4 KiB random write, depth 32, flush every 32", "--rw=randwrite --bs=4k --iodepth=32 --fsync=32", "writes/s", 0.7, writes},
		{"128 KiB sequential write, depth 32", "--rw=write --bs=128k --iodepth=32", "MB/s", 0.4, megabytes},
		{"128 KiB sequential write, depth 16", "--rw=write --bs=128k --iodepth=16", "MB/s", 0.4, megabytes},
		{"4 KiB random read, depth 32", "--rw=randread --bs=4k --iodepth=32", "reads/s", 1, reads},
		{"4 KiB random write, depth 1", "--rw=randwrite --bs=4k --iodepth=1", "us", 1, latency},
		{"4 KiB random write and flush, depth 1", "--rw=randwrite --bs=4k --iodepth=1 --fsync=1", "us", 0, pair},
	}
}

// competitor is a server under load.
type competitor struct {
	name string
	uri  string
	pid  int
}

// sample is one run of a load on a server.
type sample struct {
	figure float64
	cpu    float64 // microseconds of the server's processor time for each request
}

// TestNumbers measures the product against qemu-nbd (its default cache) and nbdkit's file
// plugin on raw files, in turn and over the same kind of socket, and prints medians and
// the least and greatest ratio of a round. Each round turns the order round: what a
// server leaves to be written back costs the next one. It needs a quiet machine, so it
// runs only when TIDEMARK_NUMBERS says how many rounds:
//
//	TIDEMARK_NUMBERS=5 go test -run TestNumbers -timeout 1h -v ./e2e
//	TIDEMARK_NUMBERS=5 go test -run 'TestNumbers/.*depth_1$' -v ./e2e
func TestNumbers(t *testing.T) {
	rounds := numbersRounds(t)
	need(t, "fio", "qemu-nbd")
	s := startSite(t, "east")
	s.createImage("vms/disk", "4GiB")
	servers := []competitor{rawServer(t, "qemu-nbd"), {"tidemark", s.uri("vms/disk"), s.pid()}}
	if _, err := toolPath("nbdkit"); err == nil {
		servers = append(servers, rawServer(t, "nbdkit"))
	}
	for _, l := range measures() {
		t.Run(l.name, func(t *testing.T) {
			samples := make([][]sample, len(servers))
			for round := range rounds {
				for i := range servers {
					if round%2 == 1 {
						i = len(servers) - 1 - i
					}
					samples[i] = append(samples[i], l.run(t, servers[i]))
				}
			}
			l.report(t, servers, samples)
		})
	}
}

func numbersRounds(t *testing.T) int {
	t.Helper()
	rounds, err := strconv.Atoi(os.Getenv("TIDEMARK_NUMBERS"))
	if err != nil || rounds < 1 {
		t.Skip("set TIDEMARK_NUMBERS to the number of rounds to measure")
	}
	return rounds
}

// report prints a line for each server; the first one is what the others are compared to.
func (l measure) report(t *testing.T, servers []competitor, samples [][]sample) {
	t.Helper()
	for i, server := range servers {
		var figures, cpu, ratios []float64
		for round, s := range samples[i] {
			figures, cpu = append(figures, s.figure), append(cpu, s.cpu)
			ratios = append(ratios, s.figure/samples[0][round].figure)
		}
		line := fmt.Sprintf("%-9s %9.0f %-8s %6.1f us CPU/request", server.name, middle(figures), l.unit, middle(cpu))
		if i > 0 {
			line += fmt.Sprintf("  ratio %.2f (%.2f-%.2f)", middle(ratios), slices.Min(ratios), slices.Max(ratios))
		}
		if server.name == "tidemark" && l.wanted > 0 {
			line += fmt.Sprintf(", wanted %.1f", l.wanted)
		}
		t.Log(line)
	}
}

func middle(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

func (l measure) run(t *testing.T, server competitor) sample {
	t.Helper()
	args := strings.Fields("--name=numbers --ioengine=nbd --size=4G --time_based --runtime=5 " +
		"--norandommap --randrepeat=0 --output-format=json " + l.args)
	before := processorTime(t, server.pid)
	out := runTool(t, t.TempDir(), "fio", append(args, "--uri="+server.uri)...)
	used := processorTime(t, server.pid) - before
	j := fioReport(t, out)
	return sample{l.figure(j), float64(used.Microseconds()) / (j.Read.Total + j.Write.Total)}
}

// fioReport reads what fio printed of its one job.
func fioReport(t *testing.T, out string) fioJob {
	t.Helper()
	var report struct {
		Jobs []fioJob `json:"jobs"`
	}
	if err := json.Unmarshal([]byte(out[strings.IndexByte(out, '{'):]), &report); err != nil || len(report.Jobs) != 1 {
		t.Fatalf("fio: %v\n%s", err, out)
	}
	return report.Jobs[0]
}

// processorTime returns what a process has used of all processors, in user and kernel
// mode together.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	const tick = 10 * time.Millisecond // what /proc counts in on Linux
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Skipf("no /proc on this system: %v", err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold blanks
	fields := strings.Fields(rest)
	const user, system = 11, 12 // counted from the state, the field behind the name
	var ticks [2]int64
	for i, field := range []int{user, system} {
		if ticks[i], err = strconv.ParseInt(fields[field], 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	return time.Duration(ticks[0]+ticks[1]) * tick
}

// rawServer runs qemu-nbd or nbdkit on a raw file of its own.
func rawServer(t *testing.T, tool string) competitor {
	t.Helper()
	dir := shortDir(t)
	disk, socket := filepath.Join(dir, "raw"), filepath.Join(dir, "nbd")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 4<<30); err != nil {
		t.Fatal(err)
	}
	args := []string{"-t", "-e", "32", "-f", "raw", "-k", socket, disk}
	if tool == "nbdkit" {
		args = []string{"-f", "-U", socket, "file", disk}
	}
	path, _ := toolPath(tool)
	cmd := exec.Command(path, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // ours, by its pid
		_ = cmd.Wait()
	})
	await(t, patience, tool+" listens", func() error {
		_, err := os.Stat(socket)
		return err
	})
	return competitor{tool, "nbd+unix:///?socket=" + socket, cmd.Process.Pid}
}

// recoveryTail is how much of the journal lies behind the last checkpoint, at least, when
// TestRecoveryNumbers kills a site; recoveryWithin is how long replaying that may take.
const (
	recoveryTail   = 1 << 30
	recoveryWithin = 5 * time.Second
)

// TestRecoveryNumbers measures how long a site that was killed under full load takes until
// it is ready again with a journal tail of 1 GiB: its bounds of checkpoints are raised, so
// that there is as much. Runs as TestNumbers does.
func TestRecoveryNumbers(t *testing.T) {
	rounds := numbersRounds(t)
	need(t, "fio")
	s := startSite(t, "east", "--journal-checkpoint-bytes", "64GiB", "--journal-checkpoint-age", "10m")
	s.createImage("vms/disk", "4GiB")
	await(t, patience, "the checkpoint that follows an operation is taken", func() error {
		behind := s.uncommitted("vms")
		return unless(behind == 0, "%d bytes lie behind it", behind)
	})
	var took []time.Duration
	for range rounds {
		runTool(t, t.TempDir(), "fio", strings.Fields("--name=recovery --ioengine=nbd --rw=randwrite --bs=4k --iodepth=32 "+
			"--size=4G --norandommap --randrepeat=0 --io_size=1056M --uri="+s.uri("vms/disk"))...)
		behind := s.uncommitted("vms")
		if behind < recoveryTail {
			t.Fatalf("only %d bytes of the journal lie behind the checkpoint", behind)
		}
		s.kill()
		begun := time.Now()
		s.start()
		s.dial("vms/disk")
		took = append(took, time.Since(begun))
		wrote := writtenBytes(t, s.pid())
		t.Logf("ready for clients after %v, with a tail of %d MB, of which %d MB were written again: %.0f MB/s",
			took[len(took)-1].Round(10*time.Millisecond), behind/1e6, wrote/1e6, float64(behind)/1e6/took[len(took)-1].Seconds())
		s.terminate() // with a checkpoint: the next tail begins here
		s.start()
	}
	slices.Sort(took)
	if middle := took[len(took)/2]; middle > recoveryWithin {
		t.Errorf("recovery of %d MiB took %v in the median", recoveryTail>>20, middle)
	}
}

// uncommitted returns how many bytes of a directory's journal lie behind the last
// checkpoint of the site's own copy.
func (s *site) uncommitted(dir string) (bytes uint64) {
	s.t.Helper()
	state := query[struct {
		Clients []struct {
			Bytes uint64 `json:"bytes_behind"`
		} `json:"clients"`
	}](s, "journal", "status", dir)
	for _, c := range state.Clients {
		bytes = max(bytes, c.Bytes)
	}
	return bytes
}

// writtenBytes returns how much a process has written since its start.
func writtenBytes(t *testing.T, pid int) int64 {
	t.Helper()
	return processCounter(t, fmt.Sprintf("/proc/%d/io", pid), "wchar:")
}

func processCounter(t *testing.T, file, key string) int64 {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Skipf("no /proc on this system: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			var n int64
			if _, err := fmt.Sscan(rest, &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s does not have %s", file, key)
	return 0
}
