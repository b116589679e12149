package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"tidemark/events"
)

// Buckets and keys of the metadata.
const (
	bucketReplica    = "replica"    // keyIdentity, keyState, keyResync
	bucketTags       = "tags"       // tag, 4 bytes: the claim as the journal holds it
	bucketImages     = "images"     // image, 4 bytes
	bucketSnapshots  = "snapshots"  // snapshot, 4 bytes
	bucketLayers     = "layers"     // layer, 4 bytes
	bucketOperations = "operations" // position of the start, 8 bytes: the start as the journal holds it
	bucketObjects    = "objects"    // file of the layer, 4 bytes; index, 8 bytes
	keyIdentity      = "identity"
	keyState         = "state"
	keyResync        = "resync" // missing in what an older program made
)

func buckets() []string {
	return []string{
		bucketReplica, bucketTags, bucketImages, bucketSnapshots, bucketLayers, bucketOperations, bucketObjects,
	}
}

const (
	metadataMode = 0o640
	// metadataMin is what bbolt makes a new file of: four pages. It never shrinks.
	metadataMin = 4 * 4096
	// lockWait bounds the wait for bbolt's own lock. The replica's lock is held, so
	// only a stranger can have it.
	lockWait = time.Second
)

// metadata is the store of everything but data. A commit is one transaction.
type metadata struct{ db *bbolt.DB }

// objectKey is the key of an object's record; their order is that of the keys.
type objectKey [12]byte

func keyOfObject(file uint32, index uint64) (k objectKey) {
	binary.BigEndian.PutUint32(k[:4], file)
	binary.BigEndian.PutUint64(k[4:], index)
	return k
}

func keyOfNumber(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func keyOfPosition(p events.Position) []byte { return binary.BigEndian.AppendUint64(nil, uint64(p)) }

// guarded runs f and turns a panic, or a fault in the mapped file, into an error: that
// is how bbolt meets pages that cannot be.
func guarded(what string, f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if p := recover(); p != nil {
			err = corrupt("%s: damaged pages: %v", what, p)
		}
	}()
	return f()
}

func openBolt(path string) (*metadata, error) {
	var db *bbolt.DB
	var file *os.File
	err := guarded("open metadata "+path, func() (err error) {
		// The list of free pages stays in the file: to find them bbolt walks all pages in
		// a goroutine of its own, where a damaged one would end the process.
		db, err = bbolt.Open(path, metadataMode, &bbolt.Options{
			Timeout: lockWait, FreelistType: bbolt.FreelistMapType, NoStatistics: true,
			OpenFile: func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
				file, err = os.OpenFile(name, flag, mode)
				return file, err
			},
		})
		return err
	})
	if err != nil && file != nil {
		// After a panic the mapping stays, and with it the lock, unless it is given up.
		_ = unix.Flock(int(file.Fd()), unix.LOCK_UN)
		_ = file.Close()
	}
	switch {
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, corrupt("open metadata %s: %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("open metadata %s: %w", path, err)
	}
	return &metadata{db}, nil
}

// createMetadata makes the metadata of an empty replica, durably.
func createMetadata(path string, id Identity) error {
	m, err := openBolt(path)
	if err != nil {
		return err
	}
	err = m.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range buckets() {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		if err := put(tx, bucketReplica, []byte(keyIdentity), appendIdentity([]byte{recordVersion}, id)); err != nil {
			return err
		}
		return put(tx, bucketReplica, []byte(keyState), appendState([]byte{recordVersion}, state{
			nextImage: 1, nextSnapshot: 1, nextLayer: 1, nextFile: 1,
		}))
	})
	if err := errors.Join(err, m.close()); err != nil {
		return fmt.Errorf("create metadata %s: %w", path, err)
	}
	return nil
}

// openMetadata opens metadata that must be there.
func openMetadata(path string) (*metadata, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open metadata: %w", err)
	}
	if info.Size() < metadataMin { // nothing at all bbolt would take for new
		return nil, corrupt("metadata %s have only %d bytes", path, info.Size())
	}
	if err := checkPages(path); err != nil {
		return nil, err
	}
	return openBolt(path)
}

func (m *metadata) close() error { return guarded("close metadata", m.db.Close) }

// put seals and stores a record.
func put(tx *bbolt.Tx, bucket string, key, record []byte) error {
	return tx.Bucket([]byte(bucket)).Put(key, sealRecord(record, 0, []byte(bucket), key))
}

// view runs f over the metadata, checking that all buckets are there.
func (m *metadata) view(f func(tx *bbolt.Tx) error) error {
	return guarded("read metadata", func() error {
		return m.db.View(func(tx *bbolt.Tx) error {
			for _, name := range buckets() {
				if tx.Bucket([]byte(name)) == nil {
					return corrupt("the metadata have no bucket %q", name)
				}
			}
			return f(tx)
		})
	})
}

// record reads one record that must be there.
func record(tx *bbolt.Tx, bucket, key string) (*decoder, error) {
	value := tx.Bucket([]byte(bucket)).Get([]byte(key))
	if value == nil {
		return nil, corrupt("the metadata have no record %q of %s", key, bucket)
	}
	return openRecord([]byte(bucket), []byte(key), value)
}

// each calls f with every record of a bucket, whose keys have keySize bytes, and
// demands that there are count of them in order.
func each(tx *bbolt.Tx, bucket string, keySize int, count uint64, f func(key []byte, d *decoder) error) error {
	var last []byte
	found := uint64(0)
	err := tx.Bucket([]byte(bucket)).ForEach(func(key, value []byte) error {
		if len(key) != keySize || last != nil && bytes.Compare(last, key) >= 0 {
			return corrupt("the keys of %s in the metadata are damaged at %x", bucket, key)
		}
		last = key
		found++
		d, err := openRecord([]byte(bucket), key, value)
		if err != nil {
			return err
		}
		if err := f(key, d); err != nil {
			return err
		}
		if !d.finish() {
			return corrupt("record %x of %s in the metadata is damaged", key, bucket)
		}
		return nil
	})
	if err == nil && found != count {
		return corrupt("the metadata hold %d records of %s, not %d", found, bucket, count)
	}
	return err
}

// commit is what a checkpoint stores, in one transaction.
type commit struct {
	state          state
	identity       Identity
	resync         resync
	tags           []events.TagClaimed // new ones
	images         []ImageRecord
	snapshots      []SnapshotRecord
	layers         []layerRecord
	operations     []Operation // new ones
	goneImages     []events.ImageID
	goneSnapshots  []events.SnapshotID
	goneLayers     []LayerID
	goneOperations []events.Position
	goneTags       []events.Tag
	newJournal     bool
	goneFiles      []uint32
	goneObjects    []objectKey
	objects        []objectRecord // sorted by key
}

type objectRecord struct {
	key    objectKey
	record []byte // sealed
}

func (m *metadata) store(c *commit) error {
	return guarded("write metadata", func() error {
		return m.db.Update(func(tx *bbolt.Tx) error {
			if err := c.storeObjects(tx.Bucket([]byte(bucketObjects))); err != nil {
				return err
			}
			if err := c.storeGone(tx); err != nil {
				return err
			}
			if err := c.storeHistory(tx); err != nil {
				return err
			}
			if err := c.storeRecords(tx); err != nil {
				return err
			}
			if err := put(tx, bucketReplica, []byte(keyIdentity), appendIdentity([]byte{recordVersion}, c.identity)); err != nil {
				return err
			}
			if err := put(tx, bucketReplica, []byte(keyResync), appendResync([]byte{recordVersion}, c.resync)); err != nil {
				return err
			}
			return put(tx, bucketReplica, []byte(keyState), appendState([]byte{recordVersion}, c.state))
		})
	})
}

// storeGone deletes the records of what is no more.
func (c *commit) storeGone(tx *bbolt.Tx) error {
	if err := deleteNumbers(tx, bucketImages, c.goneImages); err != nil {
		return err
	}
	if err := deleteNumbers(tx, bucketSnapshots, c.goneSnapshots); err != nil {
		return err
	}
	if err := deleteNumbers(tx, bucketLayers, c.goneLayers); err != nil {
		return err
	}
	for _, started := range c.goneOperations {
		if err := tx.Bucket([]byte(bucketOperations)).Delete(keyOfPosition(started)); err != nil {
			return err
		}
	}
	return nil
}

func deleteNumbers[N ~uint32](tx *bbolt.Tx, bucket string, numbers []N) error {
	for _, n := range numbers {
		if err := tx.Bucket([]byte(bucket)).Delete(keyOfNumber(uint32(n))); err != nil {
			return err
		}
	}
	return nil
}

// storeRecords writes what is new or changed of everything but objects.
func (c *commit) storeRecords(tx *bbolt.Tx) error {
	for _, t := range c.tags {
		msg, _ := t.Encode(t.Mark.Time)
		if err := put(tx, bucketTags, keyOfNumber(uint32(t.Tag)), append([]byte{recordVersion}, msg...)); err != nil {
			return err
		}
	}
	for _, img := range c.images {
		if err := put(tx, bucketImages, keyOfNumber(uint32(img.ID)), appendImage([]byte{recordVersion}, img)); err != nil {
			return err
		}
	}
	for _, s := range c.snapshots {
		if err := put(tx, bucketSnapshots, keyOfNumber(uint32(s.ID)), appendSnapshot([]byte{recordVersion}, s)); err != nil {
			return err
		}
	}
	for _, l := range c.layers {
		if err := put(tx, bucketLayers, keyOfNumber(uint32(l.ID)), appendLayer([]byte{recordVersion}, l)); err != nil {
			return err
		}
	}
	for _, o := range c.operations {
		if err := put(tx, bucketOperations, keyOfPosition(o.Started), appendOperation([]byte{recordVersion}, o)); err != nil {
			return err
		}
	}
	return nil
}

func (c *commit) storeObjects(b *bbolt.Bucket) error {
	for _, file := range c.goneFiles {
		prefix := keyOfNumber(file)
		cursor := b.Cursor()
		// Deleting moves a cursor in ways of its own, so it looks again each time.
		for k, _ := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = cursor.Seek(prefix) {
			if err := cursor.Delete(); err != nil {
				return err
			}
		}
	}
	for _, key := range c.goneObjects {
		if err := b.Delete(key[:]); err != nil {
			return err
		}
	}
	for i := range c.objects {
		if err := b.Put(c.objects[i].key[:], c.objects[i].record); err != nil {
			return err
		}
	}
	return nil
}
