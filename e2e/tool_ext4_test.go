package e2e_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFilesystem mirrors a filesystem with real files: made with mkfs.ext4, copied in
// with nbdcopy at east, changed with qemu-io, and read back from west's read-only
// export: not a byte differs, e2fsck finds nothing, and the files are the ones that went in.
func TestFilesystem(t *testing.T) {
	t.Parallel()
	need(t, "mkfs.ext4", "e2fsck", "debugfs", "nbdcopy", "qemu-io")
	const image = "vms/prod/root"
	dir := t.TempDir()
	raw := filepath.Join(dir, "want.raw")
	files := filepath.Join(strings.TrimSpace(runTool(t, dir, "go", "env", "GOROOT")), "src", "net")
	// The filesystem leaves the last part of the image to qemu-io.
	runTool(t, dir, "mkfs.ext4", "-q", "-d", files, raw, "60M")
	if err := os.Truncate(raw, 64<<20); err != nil {
		t.Fatal(err)
	}
	east, west := pair(t)
	east.createImage(image, "64MiB", "--object-size", "1MiB")
	west.must("mirror", "add", "vms/prod")
	runTool(t, dir, "nbdcopy", "--flush", raw, east.uri(image))
	changes := []string{
		"-c", "write -P 0xa5 60M 1M", "-c", "write -z 60500k 100k", "-c", "write -P 0x3c 61440512 512",
		"-c", "discard 62M 1M", "-c", "write -P 0x11 63M 1M", "-c", "flush",
	}
	for _, target := range []string{raw, east.uri(image)} {
		runTool(t, dir, "qemu-io", append([]string{"-f", "raw", target}, changes...)...)
	}
	awaitLevel(t, east, west, "vms/prod")
	got := filepath.Join(dir, "got.raw")
	runTool(t, dir, "nbdcopy", west.uri(image), got)
	sameFile(t, raw, got)
	if out, err := tryTool(t, dir, "e2fsck", "-fn", got); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	out := filepath.Join(dir, "files")
	if err := os.Mkdir(out, 0o700); err != nil {
		t.Fatal(err)
	}
	runTool(t, dir, "debugfs", "-R", "rdump / "+out, got)
	t.Logf("%d files compared", sameFiles(t, files, out))
}

// sameFiles compares every regular file of a folder with its copy, and counts them.
func sameFiles(t *testing.T, want, got string) int {
	t.Helper()
	count := 0
	err := filepath.WalkDir(want, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		count++
		sameFile(t, path, filepath.Join(got, strings.TrimPrefix(path, want)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if count == 0 {
		t.Errorf("no file in %s", want)
	}
	return count
}
