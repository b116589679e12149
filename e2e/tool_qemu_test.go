package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// someFile writes a raw disk with data, zeroes and holes.
func someFile(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(0); at < size; at += 5 << 20 {
		if _, err := f.WriteAt([]byte(strings.Repeat("tide", 100_000)), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestQemu uses qemu's tools with no special flags.
func TestQemu(t *testing.T) {
	t.Parallel()
	need(t, "qemu-img", "qemu-io")
	s := startSite(t, "east")
	s.createImage("vms/prod/disk", "32MiB")
	dir, uri := t.TempDir(), s.uri("vms/prod/disk")
	raw := filepath.Join(dir, "in.raw")
	someFile(t, raw, 32<<20)

	runTool(t, dir, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", raw, uri)
	runTool(t, dir, "qemu-img", "compare", "-f", "raw", "-F", "raw", raw, uri)
	runTool(t, dir, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, "out.qcow2")
	runTool(t, dir, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, "out.qcow2")
	var info struct {
		Size uint64 `json:"virtual-size"`
	}
	if err := json.Unmarshal([]byte(runTool(t, dir, "qemu-img", "info", "-f", "raw", "--output=json", uri)), &info); err != nil || info.Size != 32<<20 {
		t.Errorf("info: %d bytes, %v", info.Size, err)
	}
	checkMap(t, runTool(t, dir, "qemu-img", "map", "-f", "raw", "--output=json", uri))
	if out, err := tryTool(t, dir, "qemu-img", "info", s.uri("vms/prod/none")); err == nil {
		t.Errorf("an export that does not exist: %s", out)
	}
}

// checkMap demands that the map of the disk that someFile makes has data and holes.
func checkMap(t *testing.T, out string) {
	t.Helper()
	var extents []struct {
		Length uint64 `json:"length"`
		Zero   bool   `json:"zero"`
		Data   bool   `json:"data"`
	}
	if err := json.Unmarshal([]byte(out), &extents); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	var all, data uint64
	for _, e := range extents {
		all += e.Length
		if e.Data {
			data += e.Length
		}
	}
	if all != 32<<20 || data == 0 || data > all/4 {
		t.Errorf("map: %d bytes, %d of them data: %s", all, data, out)
	}
}

// TestQemuIO sends what qemu's block layer sends: FUA with every write, fast zeroes,
// discards, and requests that no alignment fits.
func TestQemuIO(t *testing.T) {
	t.Parallel()
	need(t, "qemu-io")
	s := startSite(t, "east")
	s.createImage("vms/disk", "16MiB")
	out := runTool(t, t.TempDir(), "qemu-io", "-f", "raw", "-d", "unmap", s.uri("vms/disk"),
		"-c", "write -P 1 0 4M", "-c", "write -P 2 1 511", "-c", "write -f -P 3 4097 3",
		"-c", "write -z -n 1M 512k", "-c", "write -z -u 2M 512k", "-c", "discard 3M 512k", "-c", "flush",
		"-c", "read -P 2 1 511", "-c", "read -P 3 4097 3", "-c", "read -P 1 512 3585",
		"-c", "read -P 0 1M 512k", "-c", "read -P 0 2M 512k", "-c", "read -P 0 3M 512k", "-c", "read -P 1 3584k 512k",
		"-c", "aio_write -P 9 8M 2M", "-c", "aio_write -P 8 10M 2M", "-c", "aio_flush", "-c", "read -P 9 8M 2M", "-c", "read -P 8 10M 2M",
		"-c", "map")
	if strings.Contains(out, "verification failed") || strings.Contains(out, "failed") {
		t.Errorf("qemu-io: %s", out)
	}
	if out, _ := tryTool(t, t.TempDir(), "qemu-io", "-f", "raw", s.uri("vms/disk"), "-c", "write 16M 4k", "-c", "read 0 4k"); !strings.Contains(out, "4 KiB, 1 ops") {
		t.Errorf("after a request beyond the end: %s", out)
	}
}
