package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"tidemark/internal/fault"
)

// TestCreateWhole: a file is there with all that was written, or nothing is.
func TestCreateWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "export")
	write := func(text string, err error) func(io.Writer) error {
		return func(w io.Writer) error {
			if _, writeErr := io.WriteString(w, text); writeErr != nil {
				return writeErr
			}
			if _, statErr := os.Stat(path); text == "first" && statErr == nil {
				t.Error("the file has its name before it is complete")
			}
			return err
		}
	}
	files := func(want int) {
		t.Helper()
		if all, err := os.ReadDir(dir); err != nil || len(all) != want {
			t.Errorf("%d files are left, want %d: %v", len(all), want, err)
		}
	}
	failed := errors.New("the journal ends in the middle")
	if err := createWhole(path, write("half", failed)); !errors.Is(err, failed) {
		t.Errorf("a failed export: %v", err)
	}
	files(0)
	if err := createWhole(path, write("first", nil)); err != nil {
		t.Fatal(err)
	}
	if err := createWhole(path, write("second", nil)); fault.CodeOf(err) != fault.Exists {
		t.Errorf("a name that was taken meanwhile: %v", err)
	}
	files(1)
	if text, err := os.ReadFile(path); err != nil || string(text) != "first" {
		t.Errorf("the file holds %q, %v", text, err)
	}
	if err := createWhole(filepath.Join(dir, "missing", "export"), write("x", nil)); fault.CodeOf(err) != fault.Usage {
		t.Errorf("a folder that is not there: %v", err)
	}
}
