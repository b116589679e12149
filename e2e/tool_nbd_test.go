package e2e_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// TestLibnbd uses nbdinfo and nbdcopy, both ways, over several connections.
func TestLibnbd(t *testing.T) {
	t.Parallel()
	need(t, "nbdinfo", "nbdcopy")
	s := startSite(t, "east")
	for _, image := range []string{"vms/prod/disk", "vms/prod/other"} {
		s.createImage(image, "32MiB")
	}
	dir, uri := t.TempDir(), s.uri("vms/prod/disk")
	raw, back := filepath.Join(dir, "in.raw"), filepath.Join(dir, "back.raw")
	someFile(t, raw, 32<<20)
	runTool(t, dir, "nbdcopy", "--flush", raw, uri)
	runTool(t, dir, "nbdcopy", uri, back)
	sameFile(t, raw, back)
	// From one export to another, and zeroes over what was there.
	runTool(t, dir, "nbdcopy", "--allocated", uri, s.uri("vms/prod/other"))
	runTool(t, dir, "nbdcopy", s.uri("vms/prod/other"), back)
	sameFile(t, raw, back)
	sparse := filepath.Join(dir, "sparse.raw")
	runTool(t, dir, "truncate", "-s", "32M", sparse)
	runTool(t, dir, "nbdcopy", "--allocated", sparse, s.uri("vms/prod/other"))
	runTool(t, dir, "nbdcopy", s.uri("vms/prod/other"), back)
	sameFile(t, sparse, back)

	if size := strings.TrimSpace(runTool(t, dir, "nbdinfo", "--size", uri)); size != "33554432" {
		t.Errorf("nbdinfo --size: %s", size)
	}
	checkInfo(t, runTool(t, dir, "nbdinfo", "--json", uri))
	list := runTool(t, dir, "nbdinfo", "--list", "nbd+unix:///?socket="+s.socket)
	for _, image := range []string{"vms/prod/disk", "vms/prod/other"} {
		if !strings.Contains(list, `export="`+image+`"`) {
			t.Errorf("nbdinfo --list has no %s: %s", image, list)
		}
	}
	if m := runTool(t, dir, "nbdinfo", "--map", uri); !strings.Contains(m, "data") || !strings.Contains(m, "hole,zero") {
		t.Errorf("nbdinfo --map: %s", m)
	}
}

// checkInfo demands the abilities that nbd.md calls for.
func checkInfo(t *testing.T, out string) {
	t.Helper()
	var info struct {
		Exports []map[string]any `json:"exports"`
	}
	if err := json.Unmarshal([]byte(out), &info); err != nil || len(info.Exports) != 1 {
		t.Fatalf("%v in %s", err, out)
	}
	for key, want := range map[string]any{
		"is_read_only": false, "can_flush": true, "can_fua": true, "can_trim": true, "can_zero": true,
		"can_fast_zero": true, "can_multi_conn": true, "can_cache": true, "can_df": true, "export-size": float64(32 << 20),
	} {
		if got := info.Exports[0][key]; got != want {
			t.Errorf("nbdinfo: %s is %v, want %v", key, got, want)
		}
	}
}

// TestNBDClient asks for the list as the kernel's tool does.
func TestNBDClient(t *testing.T) {
	t.Parallel()
	need(t, "nbd-client")
	address := freePort(t)
	s := startSite(t, "east", "--nbd", address)
	s.createImage("vms/prod/disk", "8MiB")
	host, port, _ := strings.Cut(address, ":")
	out := runTool(t, t.TempDir(), "nbd-client", "-l", host, port)
	if !strings.Contains(out, "vms/prod/disk") {
		t.Errorf("nbd-client -l: %s", out)
	}
}

// TestNBDKit puts nbdkit's proxy and its checking filters between client and server.
func TestNBDKit(t *testing.T) {
	t.Parallel()
	need(t, "nbdkit", "nbdcopy")
	s := startSite(t, "east")
	s.createImage("vms/prod/disk", "16MiB")
	dir := t.TempDir()
	raw := filepath.Join(dir, "in.raw")
	someFile(t, raw, 16<<20)
	proxy := func(run, filter string, settings ...string) {
		t.Helper()
		args := []string{"-U", "-", "--exit-with-parent", "--run", run}
		if filter != "" {
			args = append(args, "--filter="+filter)
		}
		args = append(append(args, "nbd", "socket="+s.socket, "export=vms/prod/disk"), settings...)
		runTool(t, dir, "nbdkit", args...)
	}
	proxy("nbdcopy --flush "+raw+` "$uri"`, "")
	proxy("nbdcopy --flush "+raw+` "$uri"`, "multi-conn", "multi-conn-mode=auto")
	// This filter fails any write that would change what is there.
	proxy("nbdcopy "+raw+` "$uri"`, "checkwrite")
	back := filepath.Join(dir, "back.raw")
	proxy(`nbdcopy "$uri" `+back, "blocksize", "maxdata=64k")
	sameFile(t, raw, back)
}
