package replica

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/vfs"
)

// contradictions are what images, snapshots and layers cannot be, made of those of
// withSnapshots: layers 1 (s1) <- 2 (s2) <- 3 (image 1), 2 <- 4 (image 2).
var contradictions = map[string]func(s *SyncStart){
	"a layer that stands on itself":        func(s *SyncStart) { s.Layers[1].Parent = 2 },
	"layers in a circle":                   func(s *SyncStart) { s.Layers[0].Parent, s.Layers[0].Overlap = 2, 4096 },
	"a layer on a missing one":             func(s *SyncStart) { s.Layers = s.Layers[1:] },
	"a layer twice":                        func(s *SyncStart) { s.Layers[2] = s.Layers[1] },
	"a layer with a number to come":        func(s *SyncStart) { s.NextLayer = 4 },
	"a layer that shows more than it has":  func(s *SyncStart) { s.Layers[2].Overlap = 64 << 10 },
	"a layer that shows parts of a block":  func(s *SyncStart) { s.Layers[2].Overlap = 100 },
	"a layer that shows nothing's content": func(s *SyncStart) { s.Layers[0].Overlap = 4096 },
	"a layer of other objects":             func(s *SyncStart) { s.Layers[1].ObjectSize = 4096 },
	"a layer of no size":                   func(s *SyncStart) { s.Layers[1].Size = 0 },
	"a floor beyond the end":               func(s *SyncStart) { s.Layers[3].FloorEnd = 1 << 40 },
	"an image on a missing layer":          func(s *SyncStart) { s.Images[0].Layer = 9 },
	"an image on a layer below another":    func(s *SyncStart) { s.Images[0].Layer = 2 },
	"two images on one layer":              func(s *SyncStart) { s.Images[0].Layer = 4 },
	"an image on a layer of another":       func(s *SyncStart) { s.Layers[2].Owner = 2 },
	"an image larger than its layer":       func(s *SyncStart) { s.Images[0].Size++ },
	"a link that is another's name":        func(s *SyncStart) { s.Images[0].Links = []string{"c"} },
	"a link that is no name":               func(s *SyncStart) { s.Images[0].Links = []string{"a/b"} },
	"an unknown feature":                   func(s *SyncStart) { s.Images[0].Features = []string{"x"} },
	"metadata without a key":               func(s *SyncStart) { s.Images[0].Metadata = map[string]string{"": "v"} },
	"a limit above the most":               func(s *SyncStart) { s.Images[0].SnapshotLimit = events.SnapshotsMax + 1 },
	"a clone of a missing snapshot":        func(s *SyncStart) { s.Images[1].Parent = 9 },
	"a clone of what is not protected":     func(s *SyncStart) { s.Images[1].Parent = 1 },
	"a snapshot on a missing layer":        func(s *SyncStart) { s.Snapshots[0].Layer = 9 },
	"a snapshot on an active layer":        func(s *SyncStart) { s.Snapshots[1].Layer = 3 },
	"a snapshot of a missing image":        func(s *SyncStart) { s.Snapshots[0].Image = 9 },
	"a snapshot larger than its layer":     func(s *SyncStart) { s.Snapshots[0].Size-- },
	"two snapshots of one name":            func(s *SyncStart) { s.Snapshots[0].Name = "s2" },
	"a snapshot that has no name":          func(s *SyncStart) { s.Snapshots[0].Name = "" },
	"a snapshot with a number to come":     func(s *SyncStart) { s.NextSnapshot = 2 },
	"counting from zero":                   func(s *SyncStart) { s.NextImage = 0 },
	"an operation to come": func(s *SyncStart) {
		s.Unfinished = []Operation{{s.Mark.Position + 1, events.ImageRemoved{Image: 1}}}
	},
	"an operation without an intent": func(s *SyncStart) { s.Unfinished = []Operation{{Started: 1}} },
}

// startOf returns what a first sync from a replica begins with, as the network carries it.
func startOf(t *testing.T, r *Replica) (s SyncStart) {
	t.Helper()
	start, err := r.SyncStart()
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(start)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContradictions(t *testing.T) {
	_, source := withSnapshots(t)
	for what, spoil := range contradictions {
		follower := create1(t, vfs.OS(), filepath.Join(memDir(t), "f"))
		start := startOf(t, source)
		spoil(&start)
		if err := follower.BeginSync(start); fault.CodeOf(err) != fault.Corrupt {
			t.Errorf("%s: %v", what, err)
		}
		if err := follower.BeginSync(startOf(t, source)); err != nil {
			t.Errorf("a good start after %s: %v", what, err)
		}
	}
}

// TestContradictionsOnDisk gives records of the metadata other contents, rightly sealed.
func TestContradictionsOnDisk(t *testing.T) {
	_, r := withSnapshots(t)
	mustCheckpoint(t, r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(r.dir, metaName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	layer := func(id uint32, f func(l *layerRecord)) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			d, err := openRecord([]byte(bucketLayers), keyOfNumber(id), tx.Bucket([]byte(bucketLayers)).Get(keyOfNumber(id)))
			if err != nil {
				return err
			}
			l := d.layer()
			f(&l)
			return put(tx, bucketLayers, keyOfNumber(id), appendLayer([]byte{recordVersion}, l))
		}
	}
	cases := map[string]func(tx *bbolt.Tx) error{
		"a circle of layers":      layer(1, func(l *layerRecord) { l.Parent, l.Overlap = 3, 4096 }),
		"a missing parent":        layer(3, func(l *layerRecord) { l.Parent = 77 }),
		"a file twice":            layer(3, func(l *layerRecord) { l.number = 1 }),
		"a file to come":          layer(3, func(l *layerRecord) { l.number = 99 }),
		"under another's key":     layer(3, func(l *layerRecord) { l.ID = 2 }),
		"an object beyond":        layer(1, func(l *layerRecord) { l.Size = 4096 }),
		"a snapshot's layer gone": func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucketLayers)).Delete(keyOfNumber(1)) },
		"an operation that is none": func(tx *bbolt.Tx) error {
			return put(tx, bucketOperations, keyOfPosition(5), []byte{recordVersion, 1, 2, 3})
		},
	}
	for what, spoil := range cases {
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Update(spoil), db.Close()); err != nil {
			t.Fatal(err)
		}
		r, err := Open(vfs.OS(), r.dir)
		if err == nil {
			_ = r.Close()
		}
		if fault.CodeOf(err) != fault.Corrupt {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestFormerFormat opens metadata of the version that knew one layer for each image.
func TestFormerFormat(t *testing.T) {
	dir, _ := sample(t)
	path := filepath.Join(dir, metaName)
	damageRecords(t, path, bucketReplica, func(name string, b *bbolt.Bucket, k, v []byte) error {
		return b.Put(k, resealed(name, k, v, 0, 1))
	})
	_, err := Open(vfs.OS(), dir)
	if fault.CodeOf(err) != fault.Corrupt || !strings.Contains(err.Error(), "has version 1, this program knows 2") {
		t.Errorf("open of a former format: %v", err)
	}
}
