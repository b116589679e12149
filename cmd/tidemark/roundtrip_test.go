package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/internal/api"
	"tidemark/internal/nbdclient"
	"tidemark/internal/sitetest"
)

// site runs commands against a site of its own.
type siteUnderTest struct {
	*serving
}

// run carries out a command that must succeed, and returns what it printed.
func (s siteUnderTest) run(t *testing.T, in string, args ...string) string {
	t.Helper()
	code, out, messages := s.try(t, in, args...)
	if code != 0 {
		t.Fatalf("tidemark %s: exit code %d: %s", strings.Join(args, " "), code, messages)
	}
	return out
}

func (s siteUnderTest) try(t *testing.T, in string, args ...string) (code int, out, messages string) {
	t.Helper()
	return tidemark(t, in, append(args, "--nats-url", s.values["nats"])...)
}

func shownJSON[T any](t *testing.T, s siteUnderTest, args ...string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(s.run(t, "", append(args, "-o", "json")...)), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func (s siteUnderTest) dial(t *testing.T, export string) *nbdclient.Conn {
	t.Helper()
	conn, err := nbdclient.Dial(t.Context(), "unix", s.socket, export)
	if err != nil {
		t.Fatalf("%s: %v", export, err)
	}
	return conn
}

// write makes some changes of every kind that NBD has.
func (s siteUnderTest) write(t *testing.T, export string, seed uint64) {
	t.Helper()
	conn := s.dial(t, export)
	random := rand.New(rand.NewPCG(seed, 1))
	for i := range 30 {
		length := 512 * (1 + random.Uint64N(64))
		at := 512 * random.Uint64N((conn.Size()-length)/512)
		var err error
		switch i % 10 {
		case 3:
			err = conn.Trim(t.Context(), at, length, false)
		case 6:
			err = conn.Zero(t.Context(), at, length, false)
		case 8:
			err = conn.Flush(t.Context())
		default:
			err = conn.WriteAt(t.Context(), filledWith(random, length), at, i%5 == 0)
		}
		if err != nil {
			t.Fatalf("%s: %v", export, err)
		}
	}
	// One write that is several entries.
	if err := conn.WriteAt(t.Context(), filledWith(random, 700<<10), 1024, false); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func filledWith(random *rand.Rand, length uint64) []byte {
	data := make([]byte, length)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return data
}

// state describes everything that a directory holds, by name: what two directories with
// the same content have in common.
func (s siteUnderTest) state(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	for _, image := range shownJSON[[]api.Image](t, s, "image", "list", dir) {
		fmt.Fprintln(&b, image.Image, image.Names, image.Size, image.Features, image.Parent, image.SnapshotLimit, s.content(t, image.Name))
		for _, pair := range shownJSON[[]metadata](t, s, "image", "meta", "list", image.Name) {
			fmt.Fprintln(&b, "  ", pair)
		}
	}
	for _, snapshot := range shownJSON[[]api.Snapshot](t, s, "snap", "list", dir) {
		fmt.Fprintln(&b, snapshot.Image, snapshot.Snapshot, snapshot.Size, snapshot.Protected, snapshot.Group, snapshot.Children, s.content(t, snapshot.Name))
	}
	return b.String()
}

func (s siteUnderTest) content(t *testing.T, export string) string {
	t.Helper()
	conn := s.dial(t, export)
	all := make([]byte, conn.Size())
	if err := conn.ReadAt(t.Context(), all, 0); err != nil {
		t.Fatalf("%s: %v", export, err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(all))
}

// eventful makes a directory that has seen everything a journal can hold.
func eventful(t *testing.T, s siteUnderTest, dir string) {
	t.Helper()
	at := func(name string) string { return dir + "/" + name }
	s.run(t, "", "image", "create", at("disk"), "--size", "4MiB", "--object-size", "64KiB")
	s.run(t, "", "image", "create", at("log"), "--size", "2MiB")
	s.write(t, at("disk"), 1)
	s.write(t, at("log"), 2)
	s.run(t, "", "snap", "create", at("disk@first"))
	s.write(t, at("disk"), 3)
	s.run(t, "", "snap", "create", dir+"@all")
	s.run(t, "", "image", "fill", at("log"), "--offset", "64KiB", "--length", "1MiB", "--pattern", "01020304")
	s.run(t, "", "snap", "protect", at("disk@first"))
	s.run(t, "", "clone", at("disk@first"), "clone")
	s.write(t, at("clone"), 4)
	s.run(t, "", "image", "rename", at("log"), "records")
	s.write(t, at("records"), 5)
	s.run(t, "", "image", "link", at("disk"), "alias")
	s.run(t, "", "image", "rename", at("alias"), "other")
	s.run(t, "", "snap", "rename", at("records@all"), "everything")
	s.run(t, "", "image", "resize", at("disk"), "--size", "6MiB")
	s.write(t, at("disk"), 6)
	s.run(t, "", "image", "resize", at("disk"), "--size", "3MiB", "--allow-shrink")
	s.run(t, "", "image", "meta", "set", at("records"), "owner", "<Ada & co>")
	s.run(t, "", "image", "meta", "set", at("records"), "gone", "soon")
	s.run(t, "", "image", "meta", "remove", at("records"), "gone")
	s.run(t, "", "snap", "limit", "set", at("clone"), "5")
	s.run(t, "", "snap", "rollback", at("records@everything"))
	s.write(t, at("records"), 7)
	s.run(t, "", "clone", at("disk@first"), "flat")
	s.write(t, at("flat"), 8)
	s.run(t, "", "flatten", at("flat"))
	s.run(t, "", "image", "create", at("short-lived"), "--size", "2MiB")
	s.write(t, at("short-lived"), 9)
	s.run(t, "", "image", "remove", at("short-lived"))
	s.run(t, "", "snap", "create", at("flat@temporary"))
	s.run(t, "", "snap", "remove", at("flat@temporary"))
	for _, refused := range [][]string{
		{"image", "create", at("disk"), "--size", "2MiB"},
		{"snap", "remove", at("disk@first")},
		{"snap", "create", at("disk@first")},
	} {
		if code, _, _ := s.try(t, "", refused...); code == 0 {
			t.Fatalf("tidemark %v was not refused", refused)
		}
	}
	s.run(t, "", "image", "feature", "enable", at("flat"), "read-only")
}

// TestJournalExportAndImport is journal 193: what is exported and imported again gives the
// same images, in another directory and in the same one after a rollback.
func TestJournalExportAndImport(t *testing.T) {
	s := siteUnderTest{startServe(t, "--data", t.TempDir(), "--site", "east", "--node", "n1")}
	s.run(t, "", "pool", "create", "jou")
	eventful(t, s, "jou/a")
	want := s.state(t, "jou/a")

	path := filepath.Join(t.TempDir(), "a.journal")
	s.run(t, "", "journal", "export", "jou/a", path)
	s.run(t, "", "dir", "create", "jou/b")
	imports := s.run(t, "", "journal", "import", "jou/b", path, "-o", "json")
	if got := s.state(t, "jou/b"); got != want {
		t.Errorf("journal 193: imported\n%s\nexported\n%s\nsaid %s", got, want, imports)
	}
	if out := s.run(t, "", "journal", "inspect", "jou/b"); !strings.HasSuffix(out, " 0 errors\n") {
		t.Errorf("journal 192: %s", out)
	}

	// Through a pipe, and from what was imported.
	s.run(t, "", "dir", "create", "jou/c")
	s.run(t, s.run(t, "", "journal", "export", "jou/b", "-"), "journal", "import", "jou/c", "-")
	if got := s.state(t, "jou/c"); got != want {
		t.Errorf("journal 193: imported through a pipe\n%s\nwant\n%s", got, want)
	}

	t.Run("rolled back", func(t *testing.T) { rollbackAndImport(t, s) })
	t.Run("bad files", func(t *testing.T) { importBadFiles(t, s, path) })
}

// rollbackAndImport is journal 193 as the catalogue has it: a snapshot, writes, an export,
// a rollback, an import.
func rollbackAndImport(t *testing.T, s siteUnderTest) {
	s.run(t, "", "image", "create", "jou/r/disk", "--size", "4MiB")
	s.write(t, "jou/r/disk", 1)
	s.run(t, "", "snap", "create", "jou/r/disk@before")
	s.run(t, "", "journal", "reset", "jou/r")
	before := s.content(t, "jou/r/disk")
	s.write(t, "jou/r/disk", 2)
	after := s.content(t, "jou/r/disk")
	export := s.run(t, "", "journal", "export", "jou/r", "-")
	s.run(t, "", "snap", "rollback", "jou/r/disk@before")
	if got := s.content(t, "jou/r/disk"); got != before || got == after {
		t.Fatal("the rollback did not bring the content back")
	}
	s.run(t, export, "journal", "import", "jou/r", "-")
	if got := s.content(t, "jou/r/disk"); got != after {
		t.Error("journal 193: the image is not what it was at the export")
	}
}

// importBadFiles: none is imported as if it were good, and the site goes on.
func importBadFiles(t *testing.T, s siteUnderTest, path string) {
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(good, []byte("\n"))
	for name, text := range map[string]string{
		"truncated":       string(good[:len(good)/2]),
		"garbage":         "\x00\x01\x02\xff\n" + string(lines[2]),
		"huge length":     "99999999999999999999 {}\n",
		"negative length": "-2 {}\n",
		"not JSON":        "2 {x\n",
		"wrong base64":    `150 {"position":{"tag":1,"entry":1},"image_name":"disk","kind":"written","image":1,"offset":0,"length":3,"data":"!!!!"}` + "\n",
		"another image":   oneLineOf(`{"position":{"tag":1,"entry":1},"image_name":"nobody","kind":"image_resized","image":1,"size":1048576}`),
		"a bad name":      oneLineOf(`{"position":{"tag":1,"entry":1},"image_name":"../x","kind":"image_created","image":1,"name":"../x","size":1048576,"object_size":4194304}`),
		"a hostile size":  oneLineOf(`{"position":{"tag":1,"entry":1},"image_name":"x","kind":"image_created","image":1,"name":"x","size":18446744073709551615,"object_size":4194304}`),
	} {
		dir := "jou/bad-" + strings.ReplaceAll(name, " ", "-")
		s.run(t, "", "image", "create", dir+"/disk", "--size", "4MiB")
		code, _, messages := s.try(t, text, "journal", "import", dir, "-")
		if code != 1 || !strings.Contains(messages, "line ") {
			t.Errorf("%s: exit code %d, %q", name, code, messages)
		}
		if code, _, messages := s.try(t, text, "journal", "import", dir, "-", "--no-error"); code != 1 || !strings.Contains(messages, "skipped") {
			t.Errorf("%s, going on: exit code %d, %q", name, code, messages)
		}
		s.write(t, dir+"/disk", 1)
	}
	outside := oneLineOf(`{"position":{"tag":1,"entry":1},"image_name":"disk","kind":"written","image":1,"offset":9223372036854775807,"length":1,"data":"YQ=="}`)
	before := s.content(t, "jou/bad-garbage/disk")
	out := s.run(t, outside, "journal", "import", "jou/bad-garbage", "-", "-o", "json")
	if !strings.Contains(out, `"ignored": 1,`) || s.content(t, "jou/bad-garbage/disk") != before {
		t.Errorf("a write behind the image's end: %s", out)
	}
	if code, _, _ := s.try(t, "", "journal", "export", "jou/a", path); code != 4 {
		t.Errorf("an export to a file that exists: exit code %d", code)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, good) {
		t.Errorf("the file that existed was changed: %v", err)
	}
}

func oneLineOf(document string) string { return fmt.Sprintf("%d %s\n", len(document), document) }

// TestJournalStatusCounts is journal 191: after ten writes the journal is ten entries
// longer, and its client comes to its end.
func TestJournalStatusCounts(t *testing.T) {
	s := siteUnderTest{startServe(t, "--data", t.TempDir(), "--site", "east", "--node", "n1")}
	s.run(t, "", "pool", "create", "jou")
	s.run(t, "", "image", "create", "jou/a/disk", "--size", "4MiB")
	before := shownJSON[api.JournalState](t, s, "journal", "status", "jou/a")
	conn := s.dial(t, "jou/a/disk")
	for i := range uint64(10) {
		if err := conn.WriteAt(t.Context(), bytes.Repeat([]byte{1}, 4096), 4096*i, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sitetest.Eventually(t, "journal 191: the client has committed ten entries more", func() bool {
		now := shownJSON[api.JournalState](t, s, "journal", "status", "jou/a")
		if now.Tag != before.Tag || now.Entry < before.Entry+10 || now.Entry > before.Entry+11 { // a flush may leave a marker
			t.Fatalf("journal 191: the journal was at %d.%d and is at %d.%d", before.Tag, before.Entry, now.Tag, now.Entry)
		}
		return len(now.Clients) == 1 && now.Clients[0].ID == "east.n1" && now.Clients[0].Entries <= 1
	})
}
