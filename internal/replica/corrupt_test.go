package replica

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"tidemark/internal/fault"
	"tidemark/internal/vfs"
)

// sample returns a closed replica with something of everything, in a new folder.
func sample(t *testing.T) (dir string, j *journal) {
	j = newJournal(rand.New(rand.NewPCG(3, 10)).IntN)
	dir = filepath.Join(memDir(t), "r")
	r := create1(t, vfs.OS(), dir)
	for len(j.now.images) < 2 || len(j.messages) < 60 || len(j.now.unfinished) == 0 || j.now.snapshots() == 0 {
		j.random(6)
	}
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	mustCheckpoint(t, r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, j
}

func TestCorruptRecords(t *testing.T) {
	dir, _ := sample(t)
	path := filepath.Join(dir, metaName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damages := map[string]func(name string, b *bbolt.Bucket, k, v []byte) error{
		"gone":    func(_ string, b *bbolt.Bucket, k, _ []byte) error { return b.Delete(k) },
		"empty":   func(_ string, b *bbolt.Bucket, k, _ []byte) error { return b.Put(k, nil) },
		"short":   func(_ string, b *bbolt.Bucket, k, v []byte) error { return b.Put(k, v[:len(v)-1]) },
		"long":    func(_ string, b *bbolt.Bucket, k, v []byte) error { return b.Put(k, append(v, 0)) },
		"flipped": func(_ string, b *bbolt.Bucket, k, v []byte) error { v[len(v)/2] ^= 4; return b.Put(k, v) },
		"foreign": func(_ string, b *bbolt.Bucket, k, _ []byte) error { return b.Put(append([]byte{1}, k...), k) },
		"newer":   func(name string, b *bbolt.Bucket, k, v []byte) error { return b.Put(k, resealed(name, k, v, 0, 9)) },
		"lying": func(name string, b *bbolt.Bucket, k, v []byte) error {
			return b.Put(k, resealed(name, k, v, len(v)-5, 0xff))
		},
		"lying more": func(name string, b *bbolt.Bucket, k, v []byte) error { return b.Put(k, resealed(name, k, v, 1, 0xff)) },
	}
	for _, bucket := range buckets() {
		for what, damage := range damages {
			if bucket == bucketReplica && what == "foreign" {
				continue // records of other names are left to newer programs
			}
			t.Run(bucket+"/"+what, func(t *testing.T) {
				if err := os.WriteFile(path, whole, 0o600); err != nil {
					t.Fatal(err)
				}
				damageRecords(t, path, bucket, damage)
				r, err := Open(vfs.OS(), dir)
				if err == nil {
					_ = r.Close()
				}
				if fault.CodeOf(err) != fault.Corrupt && !(err == nil && strings.HasPrefix(what, "lying")) {
					t.Fatalf("open: %v", err)
				}
			})
		}
	}
}

// resealed changes a byte of a record and gives it a right checksum.
func resealed(bucket string, k, v []byte, at int, value byte) []byte {
	v = v[:len(v)-recordCRCSize]
	v[at] = value
	return sealRecord(v, 0, []byte(bucket), k)
}

func damageRecords(t *testing.T, path, bucket string, damage func(name string, b *bbolt.Bucket, k, v []byte) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		k, v := b.Cursor().Last()
		if k == nil {
			t.Fatalf("nothing in %s", bucket)
		}
		return damage(bucket, b, append([]byte(nil), k...), append([]byte(nil), v...))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestCorruptPages damages the store itself: whatever happens, Open returns. It was seen to
// end the process where an offset in an inline bucket was damaged and the collector met
// the pointer that bbolt had made of it.
func TestCorruptPages(t *testing.T) {
	dir, j := sample(t)
	path := filepath.Join(dir, metaName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 11))
	refused := 0
	for range 300 {
		bad := append([]byte(nil), whole...)
		switch rng.IntN(3) {
		case 0:
			bad = bad[:rng.IntN(len(bad))]
		case 1:
			page := rng.IntN(len(bad)/4096) * 4096
			for range 40 { // headers and element tables lie in front
				bad[page+rng.IntN(96)] = byte(rng.Uint32())
			}
		default:
			bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Open(vfs.OS(), dir)
		runtime.GC()
		if err != nil {
			refused++
			if fault.CodeOf(err) != fault.Corrupt {
				t.Errorf("open: %v", err)
			}
			continue
		}
		j.checkRecords(t, r)
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if refused < 50 {
		t.Errorf("only %d of 300 damages were noticed", refused)
	}
}

func TestLayerFileMissing(t *testing.T) {
	dir, _ := sample(t)
	names, err := filepath.Glob(filepath.Join(dir, layersFolder, "*"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	stray := filepath.Join(dir, layersFolder, "999.img")
	if err := os.WriteFile(stray, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := reopen(t, vfs.OS(), dir)
	if _, err := os.Stat(stray); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that no image has is still there: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(names[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(vfs.OS(), dir); fault.CodeOf(err) != fault.Corrupt {
		t.Fatalf("open without a layer: %v", err)
	}
}
