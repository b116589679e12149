package e2e_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const diskSector = 512

// logDisk stands in for the disk under a NATS store: it knows what was synced, and so
// what a power cut would leave. No file is really synced.
type logDisk struct {
	dir string // the store
	// gate is held while a file is synced: nothing becomes durable while a cut is made.
	gate sync.Mutex
	// journals, which only grow at their end, are durable up to a length.
	lengths map[string]int64
	// other files are durable as they were when they were last synced.
	contents map[string][]byte
	// names are durable: of a folder that was synced, as it was then.
	names map[string]bool
	gone  bool // the power
}

var errPowerGone = errors.New("the power is gone")

func newLogDisk(dir string) *logDisk {
	return &logDisk{dir: dir, lengths: map[string]int64{}, contents: map[string][]byte{}, names: map[string]bool{}}
}

// adopt takes everything in the store for durable: it was there when the power came back.
func (d *logDisk) adopt() error {
	return filepath.WalkDir(d.dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		d.names[name] = true
		return d.fsync(name)
	})
}

// fsync takes what a file holds for durable, or the names in a folder.
func (d *logDisk) fsync(name string) error {
	d.gate.Lock()
	defer d.gate.Unlock()
	if !strings.HasPrefix(name, d.dir) {
		return nil // a folder above the store
	}
	if d.gone {
		return errPowerGone
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	switch {
	case info.IsDir():
		d.names[name] = true
		entries, err := os.ReadDir(name)
		for _, e := range entries {
			d.names[filepath.Join(name, e.Name())] = true
		}
		return err
	case isJournalBlock(name):
		d.lengths[name] = info.Size()
		return nil
	}
	content, err := os.ReadFile(name)
	d.contents[name] = content
	return err
}

func isJournalBlock(name string) bool {
	return strings.HasSuffix(name, ".blk") && strings.Contains(name, "JOURNAL_")
}

// survivors writes what a power cut leaves into another folder: everything that was synced,
// and of what was not, whatever random says. The gate is held.
func (d *logDisk) survivors(t testing.TB, dst string, random *rand.Rand) {
	t.Helper()
	err := filepath.WalkDir(d.dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return ignoreVanished(err)
		}
		rel, err := filepath.Rel(d.dir, name)
		if err != nil {
			return err
		}
		if !d.names[name] && random.IntN(2) == 0 {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(dst, rel), 0o700)
		}
		content, err := d.survivor(name, random)
		if err != nil {
			return ignoreVanished(err)
		}
		return os.WriteFile(filepath.Join(dst, rel), content, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func ignoreVanished(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// survivor returns what is left of one file.
func (d *logDisk) survivor(name string, random *rand.Rand) ([]byte, error) {
	now, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if isJournalBlock(name) {
		return tear(now, min(d.lengths[name], int64(len(now))), random), nil
	}
	if synced, ok := d.contents[name]; ok {
		if random.IntN(2) == 0 {
			return synced, nil
		}
		return now, nil
	}
	return tear(now, 0, random), nil
}

// tear keeps the first bytes of a file, and of the rest what a disk might have written:
// all, nothing, a part, with sectors missing in it.
func tear(content []byte, durable int64, random *rand.Rand) []byte {
	rest := content[durable:]
	length := len(rest)
	switch random.IntN(4) {
	case 0:
		length = 0
	case 1:
	default:
		length = random.IntN(length + 1)
	}
	out := append([]byte(nil), content[:durable+int64(length)]...)
	if length == 0 || random.IntN(2) == 0 {
		return out
	}
	// The file grew, but not all of its new sectors were written.
	odds := 1 + random.IntN(8)
	for at := durable; at < int64(len(out)); {
		end := min((at/diskSector+1)*diskSector, int64(len(out)))
		if random.IntN(odds) == 0 {
			clear(out[at:end])
		}
		at = end
	}
	return out
}
