package site_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"tidemark/internal/fault"
	"tidemark/internal/site"
)

// TestDataID: processes that start at once on one folder agree, and it stays so.
func TestDataID(t *testing.T) {
	dir := t.TempDir()
	got := make([]string, 8)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() {
			var err error
			if got[i], err = site.DataID(dir); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, id := range got {
		if id != got[0] || len(id) != 16 {
			t.Fatalf("ids %q", got)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 || files[0].Name() != "node.id" {
		t.Fatalf("files %v, %v", files, err)
	}
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if other, err := site.DataID(t.TempDir()); err != nil || other == got[0] {
		t.Errorf("another folder: %q, %v", other, err)
	}
}

// A damaged id is not replaced: another process may have announced it.
func TestDamagedDataID(t *testing.T) {
	for _, content := range []string{"", "\n", "a b", "../x", string(make([]byte, 100))} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "node.id"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if id, err := site.DataID(dir); fault.CodeOf(err) != fault.Corrupt {
			t.Errorf("%q: %q, %v", content, id, err)
		}
	}
	if _, err := site.DataID(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a folder that is not there has an id")
	}
}
