package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/bbolt"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/vfs"
)

// Names beside a replica's folder: of the copy that is to take its place, and of those
// whose place was taken and that are kept, with the position where each ended.
const (
	besideSuffix  = ".resync"
	refusedSuffix = ".refused-"
)

// Beside returns the folder in which a copy is prepared that is to take the place of the
// replica in dir.
func Beside(dir string) string { return dir + besideSuffix }

// Refused returns the folder in which the replica of dir is kept once another has taken
// its place; name tells it from others that are kept.
func Refused(dir, name string) string { return dir + refusedSuffix + name }

// resync is what a replica knows of the requests to give its changes up.
type resync struct {
	number uint64 // of the last one that was carried out
	// replaces: the copy takes the place of the one beside which it was made. It stays so.
	replaces bool
	keep     string // under which name the other one is kept; empty: it is not
}

func appendResync(b []byte, s resync) []byte {
	b = binary.AppendUvarint(b, s.number)
	b = binary.AppendUvarint(b, number(s.replaces))
	return appendString(b, s.keep)
}

func (d *decoder) resync() resync { return resync{d.uint(), d.bool(), d.string()} }

// loadResync reads what older programs did not write.
func (r *Replica) loadResync(tx *bbolt.Tx) error {
	if tx.Bucket([]byte(bucketReplica)).Get([]byte(keyResync)) == nil {
		return nil
	}
	d, err := record(tx, bucketReplica, keyResync)
	if err != nil {
		return err
	}
	if r.resync = d.resync(); !d.finish() {
		return corrupt("what the metadata say of resyncs is damaged")
	}
	return nil
}

// Resynced returns the number of the last request to give changes up that was carried out;
// zero if there was none.
func (r *Replica) Resynced() uint64 {
	r.applying.Lock()
	defer r.applying.Unlock()
	return r.resync.number
}

// SetResynced notes, durably, that all requests up to a number are carried out, or are void.
// A smaller number than is known changes nothing.
func (r *Replica) SetResynced(number uint64) error {
	r.applying.Lock()
	known := number <= r.resync.number
	if !known {
		r.resync.number, r.altered = number, true
	}
	r.applying.Unlock()
	if known {
		return nil
	}
	if _, err := r.checkpoint(); err != nil {
		return fmt.Errorf("note resync %d: %w", number, err)
	}
	return nil
}

// TakePlace makes this copy, durably, the one that takes the place of the replica beside
// which it was made ([Beside]), to carry out the request of a number: [Replace] does it. Its
// journal is another from here on, which begins at its mark ([Replica.NewJournal]). The other
// copy is kept under a name, or, if that is empty, destroyed. A copy that is not consistent is
// refused with [ErrSyncing].
func (r *Replica) TakePlace(number uint64, keep string) error {
	if err := r.takePlace(number, keep); err != nil {
		return fmt.Errorf("take the place of another copy: %w", err)
	}
	if _, err := r.checkpoint(); err != nil {
		return fmt.Errorf("take the place of another copy: %w", err)
	}
	return nil
}

func (r *Replica) takePlace(number uint64, keep string) error {
	r.applying.Lock()
	defer r.applying.Unlock()
	if err := r.usable(); err != nil {
		return err
	}
	if r.syncing || r.catchingUp() {
		return fault.New(fault.NotReady, "%w", ErrSyncing)
	}
	if len(keep) > stringMax {
		return fault.New(fault.Usage, "a name of %d bytes", len(keep))
	}
	r.resync = resync{max(number, r.resync.number), true, keep}
	r.newJournal, r.altered = true, true
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq = 0
	return nil
}

// Replace carries out what [Replica.TakePlace] decided: the copy beside dir takes the place
// of the one in dir. A crash at any moment leaves what another call goes on with. done is
// false if there is no copy beside dir, or if it has not been decided that it takes the
// place: it stays as it is then.
func Replace(fsys vfs.FS, dir string) (done bool, err error) {
	state, err := besideState(fsys, dir)
	if err != nil || !state.replaces {
		return false, err
	}
	if err := replace(fsys, dir, state.keep); err != nil {
		return false, fmt.Errorf("replace the copy in %s: %w", dir, err)
	}
	return true, nil
}

// besideState returns what the copy beside dir knows of resyncs; nothing if there is none.
func besideState(fsys vfs.FS, dir string) (resync, error) {
	r, err := Open(fsys, Beside(dir))
	if errors.Is(err, ErrNotFound) {
		return resync{}, nil
	}
	if err != nil {
		return resync{}, err
	}
	state := r.resync
	return state, r.Close()
}

func replace(fsys vfs.FS, dir, keep string) error {
	there, err := fsys.Exists(dir)
	if err != nil {
		return err
	}
	switch {
	case there && keep != "":
		err = fsys.Rename(dir, Refused(dir, keep))
		if err == nil { // it must not be lost to the one that takes its name
			err = fsys.SyncDir(filepath.Dir(dir))
		}
	case there:
		err = erase(fsys, dir)
	}
	if err != nil {
		return err
	}
	if err := fsys.Rename(Beside(dir), dir); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(dir))
}

// Drop destroys the copy beside dir, whatever there is of it; none is no error.
func Drop(fsys vfs.FS, dir string) error {
	err := Destroy(fsys, Beside(dir))
	if errors.Is(err, ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// RefusedFolders returns the folders of the replicas that are kept beside dir, in order.
func RefusedFolders(fsys vfs.FS, dir string) ([]string, error) {
	names, err := fsys.ReadDir(filepath.Dir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for refused copies: %w", err)
	}
	var folders []string
	for _, name := range names {
		if strings.HasPrefix(name, filepath.Base(dir)+refusedSuffix) {
			folders = append(folders, filepath.Join(filepath.Dir(dir), name))
		}
	}
	return folders, nil
}

// DropAll destroys all replicas beside dir: the one that was prepared, and those that are
// kept.
func DropAll(fsys vfs.FS, dir string) error {
	folders, err := RefusedFolders(fsys, dir)
	errs := []error{err, Drop(fsys, dir)}
	for _, folder := range folders {
		errs = append(errs, Destroy(fsys, folder))
	}
	return errors.Join(errs...)
}

// ImagesChangedSince returns the images, by number, that have something which was not there
// at a position of this history.
func (r *Replica) ImagesChangedSince(p events.Position) []events.ImageID {
	r.applying.Lock()
	defer r.applying.Unlock()
	var changed []events.ImageID
	for id, img := range r.images {
		if img.Version() > p || img.active.changedSince(p) {
			changed = append(changed, id)
		}
	}
	slices.Sort(changed)
	return changed
}

// changedSince reports whether a layer, or one below it, has an object of a later version.
func (l *layer) changedSince(p events.Position) (changed bool) {
	for ; l != nil && !changed; l = l.parent {
		changed = l.floor > p
		l.objects.touched(0, func(_ uint64, o *object) bool {
			changed = changed || o.version > p
			return !changed
		})
	}
	return changed
}
