package vfs

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestOSFiles(t *testing.T) {
	for _, dir := range []string{t.TempDir(), "/dev/shm"} { // disk, and memory, which lacks ZERO_RANGE
		fsys := OS()
		root, err := os.MkdirTemp(dir, "tidemark-vfs-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = os.RemoveAll(root) })
		rapid.Check(t, func(t *rapid.T) {
			name := filepath.Join(root, "f")
			if err := fsys.RemoveAll(name); err != nil {
				t.Fatal(err)
			}
			f, err := fsys.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			want := newContent()
			for range 12 {
				off, length := rapid.Int64Range(0, 80<<10).Draw(t, "off"), rapid.Int64Range(1, 80<<10).Draw(t, "length")
				g := change{off: off, length: length}
				switch g.kind = rapid.SampledFrom([]OpKind{OpWrite, OpPunchHole, OpZeroRange, OpTruncate}).Draw(t, "kind"); g.kind {
				case OpWrite:
					g.data = bytes.Repeat([]byte{byte(1 + off%255)}, int(length))
					if off%2 == 0 {
						_, err = f.WriteAt(g.data, off)
					} else {
						err = f.WriteVector(slices.Collect(slices.Chunk(g.data, 1+int(off%97))), off)
					}
					f.StartWriteback(off, length)
					err = errors.Join(err, f.AwaitWriteback(off, length))
				case OpPunchHole:
					err = f.PunchHole(off, length)
				case OpZeroRange:
					err = f.ZeroRange(off, length)
				case OpTruncate:
					err = f.Truncate(off)
				}
				if err != nil {
					t.Fatalf("%+v: %v", g, err)
				}
				g.apply(want, always)
				compare(t, f, want)
			}
		})
	}
}

func compare(t *rapid.T, f File, want *content) {
	size, err := f.Size()
	if err != nil || size != want.size {
		t.Fatalf("size %d, %v, not %d", size, err, want.size)
	}
	got := make([]byte, size)
	if n, err := f.ReadAt(got, 0); n != len(got) {
		t.Fatal(err)
	}
	expected := make([]byte, size)
	for i, page := range want.pages {
		if i*pageSize < size {
			copy(expected[i*pageSize:], page[:])
		}
	}
	if !bytes.Equal(got, expected) {
		t.Fatal("content differs")
	}
}

func TestLock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	lock, err := OS().Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OS().Lock(name); !errors.Is(err, ErrLocked) {
		t.Fatalf("second lock: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if lock, err = OS().Lock(name); err != nil {
		t.Fatalf("lock after release: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OS().Lock(filepath.Join(name, "x", "y")); err == nil || errors.Is(err, ErrLocked) {
		t.Fatalf("lock in no folder: %v", err)
	}
}

func TestFaulty(t *testing.T) {
	injected := errors.New("injected")
	f := NewFaulty(OS(), FailNth(OpWrite, 2, injected))
	name := filepath.Join(t.TempDir(), "f")
	file, err := f.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for n := 1; n <= 3; n++ {
		_, err := file.WriteAt([]byte("abcd"), int64(4*n))
		if (n == 2) != errors.Is(err, injected) {
			t.Errorf("write %d: %v", n, err)
		}
	}
	if n := f.Count(OpWrite); n != 3 {
		t.Errorf("%d writes were counted", n)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "\x00\x00\x00\x00abcdab\x00\x00abcd" {
		t.Errorf("content %q, %v", got, err)
	}
}

// TestCrashImages demands that what was synced is always there, and that what was not
// is sometimes there, sometimes not, and sometimes torn.
func TestCrashImages(t *testing.T) {
	root := t.TempDir()
	c := NewCrash(OS(), nil)
	write := func(f File, b byte) {
		if _, err := f.WriteAt(bytes.Repeat([]byte{b}, 2*sectorSize), 0); err != nil {
			t.Fatal(err)
		}
	}
	synced, err := c.Create(filepath.Join(root, "synced"))
	if err != nil {
		t.Fatal(err)
	}
	defer synced.Close()
	write(synced, 'a')
	if err := errors.Join(synced.Sync(), c.SyncDir(root)); err != nil {
		t.Fatal(err)
	}
	write(synced, 'b')
	fresh, err := c.Create(filepath.Join(root, "fresh"))
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	write(fresh, 'c')
	if err := fresh.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "other"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	for seed := range uint64(200) {
		dst := filepath.Join(t.TempDir(), "image")
		if err := c.Image(root, dst, rand.New(rand.NewPCG(seed, 1))); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dst, "synced"))
		if err != nil {
			t.Fatal(err)
		}
		seen[string([]byte{got[0], got[sectorSize]})]++
		if len(bytes.Trim(got, "ab")) > 0 || len(got) != 2*sectorSize {
			t.Fatalf("something else survived: %q", got)
		}
		switch got, err := os.ReadFile(filepath.Join(dst, "fresh")); {
		case errors.Is(err, fs.ErrNotExist):
			seen["vanished"]++
		case err != nil || got[0] != 'c':
			t.Fatalf("a synced file without a synced name: %q, %v", got, err)
		}
		if _, err := os.Stat(filepath.Join(dst, "other")); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"aa", "ab", "ba", "bb", "vanished"} {
		if seen[want] == 0 {
			t.Errorf("%s was never seen: %v", want, seen)
		}
	}
}
