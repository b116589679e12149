package e2e_test

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"tidemark/internal/nbdclient"
)

// TestFirstCommand checks that a program and a folder are all that it takes.
func TestFirstCommand(t *testing.T) {
	t.Parallel()
	s := newSite(t, "east")
	values := s.start()
	for key, want := range map[string]string{
		"site": "east", "node": "east-1", "nats": s.url(), "nbd": "unix:" + s.socket, "http": s.http,
	} {
		if values[key] != want {
			t.Errorf("ready line: %s is %q, want %q (%s)", key, values[key], want, s.out.String())
		}
	}
	if lines := strings.Count(s.out.String(), "\n"); lines != 1 {
		t.Errorf("serve printed %d lines to stdout: %s", lines, s.out.String())
	}
	s.must("pool", "create", "vms")
	s.must("image", "create", "vms/prod/disk0", "--size", "1GiB")
	conn := s.dial("vms/prod/disk0")
	if conn.Size() != 1<<30 || conn.ReadOnly() || !conn.MultiConn() {
		t.Errorf("export: %d bytes, read-only %t, multi-conn %t", conn.Size(), conn.ReadOnly(), conn.MultiConn())
	}
}

// TestNouns takes pools, directories and images through their lives.
func TestNouns(t *testing.T) {
	t.Parallel()
	s := startSite(t, "east")
	s.must("pool", "create", "vms")
	s.must("dir", "create", "vms/prod/db")
	for _, image := range []string{"vms/root", "vms/prod/a", "vms/prod/db/b", "vms/prod/db/ü ber-ℓang"} {
		s.must("image", "create", image, "--size", "8MiB", "--object-size", "1MiB")
	}
	type named struct {
		Name string `json:"name"`
		Size uint64 `json:"size"`
	}
	names := func(args ...string) string {
		var all []string
		for _, n := range query[[]named](s, args...) {
			all = append(all, n.Name)
		}
		return strings.Join(all, ", ")
	}
	for _, c := range []struct{ args, want string }{
		{"image list", "vms/prod/a, vms/prod/db/b, vms/prod/db/ü ber-ℓang, vms/root"},
		{"image list vms", "vms/prod/a, vms/prod/db/b, vms/prod/db/ü ber-ℓang, vms/root"},
		{"image list vms/prod", "vms/prod/a"},
		{"image list vms//prod/db/", "vms/prod/db/b, vms/prod/db/ü ber-ℓang"},
		{"dir list", "vms/, vms/prod, vms/prod/db"},
		{"dir list vms/prod", "vms/prod"},
	} {
		if got := names(strings.Fields(c.args)...); got != c.want {
			t.Errorf("%s: got %s, want %s", c.args, got, c.want)
		}
	}
	if got := query[named](s, "image", "resize", "vms/prod/a", "--size", "12MiB"); got.Size != 12<<20 {
		t.Errorf("resized to %d bytes", got.Size)
	}
	s.refused(5, "busy", "image", "resize", "vms/prod/a", "--size", "4MiB")
	s.must("image", "resize", "vms/prod/a", "--size", "4MiB", "--allow-shrink")
	if got := query[named](s, "image", "info", "vms/prod/a"); got.Size != 4<<20 {
		t.Errorf("info says %d bytes after a shrink to 4 MiB", got.Size)
	}
	s.must("image", "remove", "vms/prod/a")
	s.refused(3, "not_found", "image", "info", "vms/prod/a")
	s.must("dir", "remove", "vms/prod")
	s.refused(3, "not_found", "dir", "info", "vms/prod")
	s.refused(5, "busy", "pool", "remove", "vms")
	s.refused(5, "busy", "dir", "remove", "vms/prod/db")
	for _, image := range []string{"vms/root", "vms/prod/db/b", "vms/prod/db/ü ber-ℓang"} {
		s.must("image", "remove", image)
	}
	for _, dir := range []string{"vms/prod/db", "vms/"} {
		s.must("dir", "remove", dir)
	}
	s.must("pool", "remove", "vms")
	if out := s.must("pool", "list", "-o", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("an empty list prints as %s", out)
	}
}

// TestImageInUse checks that an image with a client is not removed under it.
func TestImageInUse(t *testing.T) {
	t.Parallel()
	s := startSite(t, "east")
	s.createImage("vms/disk", "8MiB")
	conn := s.dial("vms/disk")
	s.refused(5, "busy", "image", "remove", "vms/disk")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := conn.WriteAt(ctx, make([]byte, 4096), 0, true); err != nil {
		t.Errorf("the client lost its image: %v", err)
	}
	if err := conn.Close(ctx); err != nil {
		t.Fatal(err)
	}
	await(t, patience, "the image can be removed", func() error {
		r := s.run("image", "remove", "vms/disk")
		return unless(r.code == 0, "%s", r)
	})
}

// refusals is every way to be refused that a site without a peer offers.
func refusals() []refusal {
	long := strings.Repeat("x", 256)
	return []refusal{
		{2, "usage", "pool create"},
		{2, "usage", "pool create a b"},
		{2, "usage", "pool create " + long},
		{2, "usage", "pool create a/b"},
		{2, "usage", "pool create a*"},
		{2, "usage", "pool create >"},
		{2, "usage", "pool create .."},
		{2, "usage", "pool create a\x01b"},
		{2, "usage", "pool create a\xffb"},
		{2, "usage", "pool list --no-such-flag"},
		{2, "usage", "nonsense"},
		{2, "usage", "dir create vms/../../etc"},
		{2, "usage", "dir create vms/" + strings.Repeat("y/", 600)},
		{2, "usage", "image create vms/d"},
		{2, "usage", "image create vms/d --size 0"},
		{2, "usage", "image create vms/d --size -5"},
		{2, "usage", "image create vms/d --size 1e9"},
		{2, "usage", "image create vms/d --size 9999999999999G"},
		{2, "usage", "image create vms/d --size 8MiB --object-size 3MiB"},
		{2, "usage", "image create vms/d --size 8MiB --object-size 1"},
		{2, "usage", "image create vms/d --size 8MiB --object-size 64GiB"},
		{2, "usage", "image create vms/d@s --size 8MiB"},
		{2, "usage", "image create d --size 8MiB"},
		{2, "usage", "image resize vms/disk"},
		{2, "usage", "mirror peer create-token vms --expires -1h"},
		{2, "usage", "mirror peer import-token vms --direction tx"},
		{2, "usage", "mirror peer import-token vms --token-file /nonexistent"},
		{3, "not_found", "pool remove none"},
		{3, "not_found", "dir info vms/none"},
		{3, "not_found", "dir remove vms/none"},
		{3, "not_found", "dir create none/dir"},
		{3, "not_found", "image info vms/none"},
		{3, "not_found", "image info vms/none/none"},
		{3, "not_found", "image create none/disk --size 8MiB"},
		{3, "not_found", "image remove vms/none"},
		{3, "not_found", "image resize vms/none --size 8MiB"},
		{3, "not_found", "image list vms/none"},
		{3, "not_found", "image list none"},
		{3, "not_found", "mirror enable none"},
		{3, "not_found", "mirror status vms/none"},
		{3, "not_found", "mirror promote vms/none"},
		{3, "not_found", "mirror demote vms/none"},
		{3, "not_found", "mirror remove vms/none"},
		{3, "not_found", "mirror peer list none"},
		{3, "not_found", "mirror peer remove vms nobody"},
		{3, "not_found", "mirror peer create-token none"},
		{3, "not_found", "events --stream NONE"},
		{4, "exists", "pool create vms"},
		{4, "exists", "dir create vms/"},
		{4, "exists", "image create vms/disk --size 8MiB"},
		{5, "busy", "pool remove vms"},
	}
}

type refusal struct {
	exit int
	code string
	args string
}

// TestRefusals checks the exit code and the JSON of every refusal, and that none of
// them changed anything.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := startSite(t, "east")
	s.createImage("vms/disk", "8MiB")
	before := s.must("image", "list", "-o", "json") + s.must("pool", "list", "-o", "json") + s.must("dir", "list", "-o", "json")
	for _, c := range refusals() {
		e := s.refused(c.exit, c.code, strings.Split(c.args, " ")...)
		if strings.ContainsAny(e.Message, "\n\x00\x01") {
			t.Errorf("%q: the message holds control characters: %q", c.args, e.Message)
		}
	}
	if after := s.must("image", "list", "-o", "json") + s.must("pool", "list", "-o", "json") + s.must("dir", "list", "-o", "json"); after != before {
		t.Errorf("refused commands changed the site from %s to %s", before, after)
	}
	if r := s.run("pool", "list", "-o", "xml"); r.code != 2 {
		t.Errorf("an unknown output: %s", r)
	}
	r := runCommand(t, nil, "--nats-url", "nats://127.0.0.1:1", "pool", "list", "-o", "json")
	if e := r.problem(t); r.code != 6 || e.Code != "timeout" {
		t.Errorf("nobody answers: want exit code 6: %s", r)
	}
}

// TestJSONKeys checks that what programs read keeps its keys.
func TestJSONKeys(t *testing.T) {
	t.Parallel()
	s := startSite(t, "east")
	s.createImage("vms/disk", "8MiB")
	lag := []string{"entries_behind", "bytes_behind", "seconds_behind"}
	for _, c := range []struct {
		args string
		list bool
		keys []string
	}{
		{"pool list", true, []string{"pool", "mirroring", "directories", "peers"}},
		{"dir list", true, []string{"id", "pool", "path", "name", "role", "node", "state"}},
		{"dir info vms/", false, []string{"id", "name", "role", "node", "state", "holder"}},
		{"image list", true, []string{"name", "size", "object_size", "used_bytes", "read_only", "version"}},
		{"image info vms/disk", false, []string{"name", "size", "object_size", "used_bytes", "read_only", "version"}},
		{"mirror status", true, append(lag, "directory", "primary", "state", "tag", "owner", "position", "nodes")},
		{"mirror peer list vms", true, nil},
		{"status", false, []string{"attention", "site", "nodes", "pools", "directories", "peers"}},
		{"version", false, []string{"version"}},
	} {
		out := s.must(append(strings.Fields(c.args), "-o", "json")...)
		checkKeys(t, c.args, out, c.list, c.keys)
	}
}

func checkKeys(t *testing.T, what, out string, list bool, keys []string) {
	t.Helper()
	objects := make([]map[string]any, 1)
	var err error
	if list {
		err = json.Unmarshal([]byte(out), &objects)
	} else {
		err = json.Unmarshal([]byte(out), &objects[0])
	}
	if err != nil || len(objects) == 0 && len(keys) > 0 {
		t.Errorf("%s: %v in %s", what, err, out)
		return
	}
	for _, o := range objects {
		for _, key := range keys {
			if _, ok := o[key]; !ok {
				t.Errorf("%s: no key %q, only %q", what, key, slices.Sorted(maps.Keys(o)))
			}
		}
	}
}

// TestDecodeGarbage feeds decode what is no message; journal 149.
func TestDecodeGarbage(t *testing.T) {
	t.Parallel()
	for _, input := range []string{
		"", "garbage", "\x9b\x01\xa5batch", "\xdd\xff\xff\xff\xff", strings.Repeat("\x91", 4<<10),
		"\xc6\xff\xff\xff\xff", "\xdf\xff\xff\xff\xffa", "{}", "\x00", strings.Repeat("ff", 3000),
	} {
		r := runCommand(t, []byte(input), "decode", "-o", "json")
		if e := r.problem(t); r.code != 1 || e.Code != "corrupt" {
			t.Errorf("%.20q: want exit code 1 and corrupt: %s", input, r)
		}
	}
	if r := runCommand(t, make([]byte, 64<<20), "decode"); r.code != 2 && r.code != 1 {
		t.Errorf("64 MiB of nothing: %s", r)
	}
}

// TestUnknownExports asks the NBD server for what it does not have.
func TestUnknownExports(t *testing.T) {
	t.Parallel()
	s := startSite(t, "east")
	s.createImage("vms/disk", "8MiB")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, name := range []string{"vms", "vms/none", "vms/disk@none", "vms/../vms/disk", "*", ">", strings.Repeat("n", 4096), "vms/di\x00sk"} {
		if conn, err := nbdclient.Dial(ctx, "unix", s.socket, name); err == nil {
			hangUp(conn)
			t.Errorf("export %.20q was opened", name)
		}
	}
	names, err := nbdclient.List(ctx, "unix", s.socket)
	if err != nil || !slices.Equal(names, []string{"vms/disk"}) {
		t.Errorf("list: %q, %v", names, err)
	}
}
