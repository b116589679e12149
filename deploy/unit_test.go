package deploy_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tidemark/deploy"
)

func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestReadUnit reads what systemd's manual says of drop-ins and of ExecStart's variables.
func TestReadUnit(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"a-b@.service":          "# a comment\n[Unit]\nDescription=x\n[Service]\nExecStart=/p --at %i/${ONE} $MANY $NONE\nUser=own\n",
		"a-b@.service.d/2.conf": "[Service]\nUser=last\n",
		"a-.service.d/1.conf":   "[Service]\nUser=prefix\nUMask=0077\n",
		"a-.service.d/readme":   "no drop-in",
		"c.service":             "[Service]\nExecStart\n",
	})
	u, err := deploy.ReadUnit(dir, "a-b@.service")
	if err != nil {
		t.Fatal(err)
	}
	if got := u.All("Service", "User"); !slices.Equal(got, []string{"own", "prefix", "last"}) || u.Get("Service", "User") != "last" {
		t.Errorf("users %q", got)
	}
	if u.Get("Service", "UMask") != "0077" || u.Get("Unit", "UMask") != "" {
		t.Error("a drop-in of a prefix is not read, or in the wrong section")
	}
	words, err := u.Command(map[string]string{"i": "east"}, map[string]string{"ONE": "a b", "MANY": "c d", "NONE": ""})
	if err != nil || !slices.Equal(words, []string{"/p", "--at", "east/a b", "c", "d"}) {
		t.Errorf("command %q, %v", words, err)
	}
	if _, err := u.Command(nil, map[string]string{"ONE": "", "MANY": "", "NONE": ""}); err == nil {
		t.Error("an unknown specifier passes")
	}
	if _, err := deploy.ReadUnit(dir, "c.service"); err == nil {
		t.Error("a line that is no setting passes")
	}
}
