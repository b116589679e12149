package replica

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/vfs"
)

// Names in a replica's folder.
const (
	lockName     = "lock"
	metaName     = "meta.db"
	metaNewName  = "meta.db.new"
	layersFolder = "layers"
	layerSuffix  = ".img"
)

// Identity says whose copy a replica is.
type Identity struct {
	Directory events.DirectoryID   `json:"directory"`
	Name      events.DirectoryName `json:"name"`
	// History identifies the history that the copy follows, whatever its position:
	// two copies of different histories have nothing in common. A follower learns it
	// from its source when the first sync begins.
	History string `json:"history"`
}

// check refuses what the metadata could not hold.
func (id Identity) check() error {
	for _, s := range []string{string(id.Directory), id.Name.Pool, id.Name.Path, id.History} {
		if len(s) > stringMax {
			return fault.New(fault.Usage, "identity %.40q…: longer than %d bytes", s, stringMax)
		}
	}
	return nil
}

// Replica is one node's copy of a directory. Its methods may be called concurrently,
// but [Replica.ApplyRun] by one goroutine, the applier, and [Replica.Stage] in the order
// of the journal.
//
// Locks are taken in the order gate, compacting, checkpointing, applying, stripes of an image by
// number, chain, mu.
type Replica struct {
	fs     vfs.FS
	dir    string
	lock   io.Closer
	meta   *metadata
	zeroes []byte   // one block, never written
	step   stepSize // of compaction
	safe   safeNote
	due    dueNote

	// compacting makes steps of compaction serial.
	compacting sync.Mutex

	// gate is held while messages are applied, and by [Replica.HoldApply]: taken before
	// all others.
	gate sync.Mutex
	// witnesses wait for moments of the replay.
	witnesses witnesses

	// checkpointing makes checkpoints serial.
	checkpointing sync.Mutex

	// applying makes what changes the replica serial: between two holders of it the
	// replica is between two messages. It protects what follows.
	applying     sync.Mutex
	verdicts     []decision
	plan         plan
	spans        spanWriter
	passed       events.Position // within a step: where the last message ends that was dealt with
	snapshots    map[events.SnapshotID]*Snapshot
	unfinished   []Operation // by start
	nextImage    events.ImageID
	nextSnapshot events.SnapshotID
	nextLayer    LayerID
	nextFile     uint32
	reach        events.Position // the last position that an installed object may include
	lost         int             // objects that are missing
	syncing      bool
	resync       resync
	altered      bool // something other than objects differs from the metadata
	newNames     bool // the layers' folder has names that are not synced
	raised       bool // compaction has moved objects up that the metadata have further down
	tagsSaved    int
	newJournal   bool // see Rewind
	holds        int  // calls of HoldCompaction in force

	// What the next checkpoint forgets, and what it does afterwards.
	goneImages     []events.ImageID
	goneSnapshots  []events.SnapshotID
	goneLayers     []LayerID
	goneOperations []events.Position
	goneTags       []events.Tag
	newOperations  []Operation
	doomed         []*layer // dropped ones
	freed          []hole   // of closed layers, to be punched

	// chain protects the layers below active ones: their tables, and what stands on what.
	// Only holders of applying change them.
	chain sync.RWMutex

	// mu protects what follows. Only holders of applying or checkpointing change it.
	mu        sync.RWMutex
	identity  Identity
	images    map[events.ImageID]*Image
	names     map[string]*Image
	layers    map[LayerID]*layer
	tags      []events.TagClaimed
	begun     events.Position // where the step ends that is being applied, or was
	staged    events.Position // where the last message ends that was staged
	applied   events.Mark
	seq       uint64
	committed commitPoint
	failure   error // why nothing can be applied or committed any more
}

type commitPoint struct {
	mark events.Mark
	seq  uint64
}

// Create makes the folder dir with an empty replica in it. It fails with [ErrExists]
// where there is one and with [vfs.ErrLocked] when somebody uses it. A crash leaves
// either nothing that [Open] finds or the whole.
func Create(fsys vfs.FS, dir string, id Identity) (*Replica, error) {
	r, err := create(fsys, dir, id)
	if err != nil {
		return nil, fmt.Errorf("create replica of %v in %s: %w", id.Name, dir, err)
	}
	return r, nil
}

func create(fsys vfs.FS, dir string, id Identity) (*Replica, error) {
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, err
	}
	lock, err := takeLock(fsys, dir)
	if err != nil {
		return nil, err
	}
	if err := initialise(fsys, dir, id); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return openLocked(fsys, dir, lock)
}

func initialise(fsys vfs.FS, dir string, id Identity) error {
	if err := id.check(); err != nil {
		return err
	}
	there, err := fsys.Exists(filepath.Join(dir, metaName))
	if err != nil {
		return err
	}
	if there {
		return fault.New(fault.Exists, "replica %w", ErrExists)
	}
	layers, fresh, note := filepath.Join(dir, layersFolder), filepath.Join(dir, metaNewName), filepath.Join(dir, safeName)
	// What a crash of an earlier attempt left is of no use.
	if err := fsys.RemoveAll(layers); err != nil {
		return err
	}
	if err := errors.Join(fsys.RemoveAll(fresh), fsys.RemoveAll(note)); err != nil {
		return err
	}
	if err := fsys.MkdirAll(layers); err != nil {
		return err
	}
	if err := createMetadata(fresh, id); err != nil {
		return err
	}
	if err := fsys.Rename(fresh, filepath.Join(dir, metaName)); err != nil {
		return err
	}
	if err := fsys.SyncDir(dir); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(dir))
}

func takeLock(fsys vfs.FS, dir string) (io.Closer, error) {
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	switch {
	case errors.Is(err, vfs.ErrLocked):
		return nil, fault.New(fault.Busy, "the replica is in use: %w", err)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.NotFound, "no replica there: %w", ErrNotFound)
	}
	return lock, err
}

// Open opens the replica in the folder dir as its last checkpoint left it; what was
// applied later must be applied again. After a crash the files may hold parts of that
// already: content is what [Replica.Applied] names only from where the replica had come
// before. It fails with [ErrNotFound] where there is none,
// with [vfs.ErrLocked] when somebody uses it, and with [fault.Corrupt] when what is
// there cannot be.
func Open(fsys vfs.FS, dir string) (*Replica, error) {
	r, err := open(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("open replica in %s: %w", dir, err)
	}
	return r, nil
}

func open(fsys vfs.FS, dir string) (*Replica, error) {
	there, err := fsys.Exists(filepath.Join(dir, metaName))
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, fault.New(fault.NotFound, "no replica there: %w", ErrNotFound)
	}
	lock, err := takeLock(fsys, dir)
	if err != nil {
		return nil, err
	}
	return openLocked(fsys, dir, lock)
}

// openLocked loads a replica; lock is its, or closed on failure.
func openLocked(fsys vfs.FS, dir string, lock io.Closer) (*Replica, error) {
	r := &Replica{
		fs: fsys, dir: dir, lock: lock, zeroes: make([]byte, BlockSize), step: defaultStep(),
		images: make(map[events.ImageID]*Image),
		names:  make(map[string]*Image),
		layers: make(map[LayerID]*layer), snapshots: make(map[events.SnapshotID]*Snapshot),
	}
	err := r.load()
	if err == nil {
		err = r.loadSafeNote()
	}
	if err == nil {
		err = r.loadDueNote()
	}
	if err == nil {
		err = r.removeOrphans()
	}
	if err != nil {
		return nil, errors.Join(err, r.closeFiles())
	}
	return r, nil
}

// removeOrphans removes files that no layer has: made after the last checkpoint, or left
// over from a layer that it forgot.
func (r *Replica) removeOrphans() error {
	folder := filepath.Join(r.dir, layersFolder)
	names, err := r.fs.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("list layers: %w", err)
	}
	used := make(map[string]bool, len(r.layers))
	for _, l := range r.layers {
		used[filepath.Base(layerPath(r.dir, l.number))] = true
	}
	for _, name := range names {
		if used[name] {
			continue
		}
		if err := r.fs.Remove(filepath.Join(folder, name)); err != nil {
			return fmt.Errorf("remove unused layer: %w", err)
		}
	}
	return nil
}

// Close closes the replica and gives its lock up. It makes no checkpoint: what was
// applied since the last one must be applied again.
func (r *Replica) Close() error {
	r.checkpointing.Lock()
	defer r.checkpointing.Unlock()
	r.applying.Lock()
	defer r.applying.Unlock()
	if errors.Is(r.usable(), ErrClosed) {
		return nil
	}
	r.mu.Lock()
	r.failure = fmt.Errorf("replica of %v: %w", r.identity.Name, ErrClosed)
	r.mu.Unlock()
	if err := r.closeFiles(); err != nil {
		return fmt.Errorf("close replica in %s: %w", r.dir, err)
	}
	return nil
}

func (r *Replica) closeFiles() error {
	var errs []error
	for _, l := range r.layers {
		errs = append(errs, l.file.Close())
	}
	for _, l := range r.doomed {
		errs = append(errs, l.file.Close())
	}
	for _, note := range []vfs.File{r.safe.file, r.due.file} {
		if note != nil {
			errs = append(errs, note.Close())
		}
	}
	if r.meta != nil {
		errs = append(errs, r.meta.close())
	}
	return errors.Join(append(errs, r.lock.Close())...)
}

// Destroy removes a replica and everything in its folder. It fails with [ErrNotFound]
// when there is no folder and with [vfs.ErrLocked] when somebody uses it; one that a
// crash left half removed is finished.
func Destroy(fsys vfs.FS, dir string) error {
	lock, err := takeLock(fsys, dir)
	if err != nil {
		return fmt.Errorf("destroy replica in %s: %w", dir, err)
	}
	if err := errors.Join(erase(fsys, dir), lock.Close()); err != nil {
		return fmt.Errorf("destroy replica in %s: %w", dir, err)
	}
	return nil
}

func erase(fsys vfs.FS, dir string) error {
	// Without its metadata a folder is no replica any more, whatever else is left.
	if err := fsys.Remove(filepath.Join(dir, metaName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := fsys.SyncDir(dir); err != nil {
		return err
	}
	if err := fsys.RemoveAll(dir); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(dir))
}

// usable returns why the replica cannot be changed, nil when it can.
func (r *Replica) usable() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.failure
}

// fail makes a failure final: files and memory may differ from now on, so only
// reopening and replaying helps. The first one stays.
func (r *Replica) fail(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == nil {
		r.failure = fmt.Errorf("the replica has failed, reopen it: %w", err)
	}
	return err
}

// Identity returns whose copy this is.
func (r *Replica) Identity() Identity {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.identity
}

// Committed returns the mark of the last checkpoint, from which replay starts after
// [Open], and the sequence that its message had in the journal's stream: a hint for
// where to start reading.
func (r *Replica) Committed() (mark events.Mark, seq uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.committed.mark, r.committed.seq
}

// Applied returns the end of the last message applied. It is never before Committed.
func (r *Replica) Applied() events.Mark {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.applied
}

// Tag returns the newest tag applied, nil if there is none.
func (r *Replica) Tag() *events.TagClaimed {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.tags) == 0 {
		return nil
	}
	t := r.tags[len(r.tags)-1]
	return &t
}

// Tags returns all tags of the history as far as it was applied here, oldest first.
func (r *Replica) Tags() []events.TagClaimed {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clone(r.tags)
}

// Images describes all images, by name, as they are between two messages.
func (r *Replica) Images() []ImageInfo {
	r.applying.Lock()
	defer r.applying.Unlock()
	out := make([]ImageInfo, 0, len(r.images))
	for _, img := range r.images {
		out = append(out, img.info())
	}
	slices.SortFunc(out, func(a, b ImageInfo) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Image returns an image by its number.
func (r *Replica) Image(id events.ImageID) (*Image, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	img, ok := r.images[id]
	return img, ok
}

// Lookup returns an image by its name.
func (r *Replica) Lookup(name string) (*Image, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	img, ok := r.names[name]
	return img, ok
}

// NextImageID returns a number above that of every image there ever was, as of the
// messages applied.
func (r *Replica) NextImageID() events.ImageID {
	r.applying.Lock()
	defer r.applying.Unlock()
	return r.nextImage
}
