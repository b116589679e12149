package holder

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/nbd"
	"tidemark/internal/replica"
	"tidemark/internal/vfs"
)

// refusedNote is the file, in the folder of a copy that was given up, that says what is
// shown of it.
const refusedNote = "refused.json"

// conflictInfix stands between an image's name and where its copy ended.
const conflictInfix = ".conflict-"

// refusal is what is shown of a copy that was given up.
type refusal struct {
	Ended  events.Position  `json:"ended"` // where its history ended
	Images []events.ImageID `json:"images"`
}

// NoteRefused notes, durably, what is to be shown of the copy in dir once it is given up. As
// long as it is not, the note means nothing.
func NoteRefused(fsys vfs.FS, dir string, ended events.Position, images []events.ImageID) error {
	return writeRefusal(fsys, dir, refusal{ended, images})
}

func writeRefusal(fsys vfs.FS, dir string, r refusal) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	name := filepath.Join(dir, refusedNote)
	fresh := name + ".new"
	if err := fsys.RemoveAll(fresh); err != nil {
		return err
	}
	file, err := fsys.Create(fresh)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(data, 0)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(fresh, name); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}

func readRefusal(fsys vfs.FS, dir string) (r refusal, err error) {
	file, err := fsys.Open(filepath.Join(dir, refusedNote))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.Size()
	if err != nil {
		return r, err
	}
	data, err := io.ReadAll(io.NewSectionReader(file, 0, size))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(data, &r)
}

// Conflicts are the images of those copies of a directory that a resync gave up and that
// were to be kept: read-only, under the name of each with where its history ended. They are
// of this node alone, and of no history: they stay, whatever becomes of the directory here,
// until each is removed. A nil one has none.
type Conflicts struct {
	fs   vfs.FS
	dir  string // of the node's copy
	log  *slog.Logger
	mu   sync.Mutex
	kept []*refused
}

// refused is one copy that was given up.
type refused struct {
	folder  string
	shown   refusal
	replica *replica.Replica
	gone    map[events.ImageID]chan struct{} // each closed when its image is shown no more
}

// OpenConflicts opens what was kept beside the copy in dir. What cannot be opened is logged,
// and stays as it is: it must not keep the directory from being served.
func OpenConflicts(fsys vfs.FS, dir string, log *slog.Logger) *Conflicts {
	c := &Conflicts{fs: fsys, dir: dir, log: log}
	folders, err := replica.RefusedFolders(fsys, dir)
	if err != nil {
		log.Error("conflict images cannot be listed", "error", err)
	}
	for _, folder := range folders {
		kept, err := openRefused(fsys, folder)
		if errors.Is(err, replica.ErrNotFound) { // its removal was interrupted
			err = fsys.RemoveAll(folder)
		}
		if err != nil {
			log.Error("conflict images cannot be shown", "folder", folder, "error", err)
			continue
		}
		if kept != nil {
			c.kept = append(c.kept, kept)
		}
	}
	return c
}

func openRefused(fsys vfs.FS, folder string) (*refused, error) {
	r, err := replica.Open(fsys, folder)
	if err != nil {
		return nil, err
	}
	shown, err := readRefusal(fsys, folder)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	k := &refused{folder: folder, shown: shown, replica: r, gone: map[events.ImageID]chan struct{}{}}
	for _, id := range shown.Images {
		k.gone[id] = make(chan struct{})
	}
	return k, nil
}

// Close ends all sessions on conflict images and closes their copies.
func (c *Conflicts) Close() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, k := range c.kept {
		for _, id := range k.shown.Images {
			close(k.gone[id])
		}
		errs = append(errs, k.replica.Close())
	}
	c.kept = nil
	return errors.Join(errs...)
}

// conflict is one image that is shown of a copy that was given up.
type conflict struct {
	of    *refused
	image *replica.Image
}

func (k conflict) name() string {
	return k.image.Name() + conflictInfix + k.of.shown.Ended.String()
}

// all returns the conflict images, by name. It is called under the lock.
func (c *Conflicts) all() []conflict {
	var all []conflict
	for _, k := range c.kept {
		for _, id := range k.shown.Images {
			if image, ok := k.replica.Image(id); ok {
				all = append(all, conflict{k, image})
			}
		}
	}
	slices.SortFunc(all, func(a, b conflict) int { return strings.Compare(a.name(), b.name()) })
	return all
}

// find returns the conflict image of a name. It is called under the lock.
func (c *Conflicts) find(name string) (conflict, bool) {
	if !strings.Contains(name, conflictInfix) {
		return conflict{}, false
	}
	for _, k := range c.all() {
		if k.name() == name {
			return k, true
		}
	}
	return conflict{}, false
}

// Names returns the names of the conflict images, in order.
func (c *Conflicts) Names() []string {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, k := range c.all() {
		names = append(names, k.name())
	}
	return names
}

// Has reports whether there is a conflict image of a name.
func (c *Conflicts) Has(name string) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.find(name)
	return ok
}

// Export opens a conflict image, or a snapshot of it, for reading; [fault.NotFound] if there
// is none of that name.
func (c *Conflicts) Export(name events.ImageName) (nbd.Device, error) {
	if c == nil {
		return nil, fault.New(fault.NotFound, "there is no image %q", name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.find(name.Image)
	if !ok {
		return nil, fault.New(fault.NotFound, "there is no image %q", name)
	}
	original := name
	original.Image = k.image.Name()
	e, err := OpenReadOnly(k.of.replica, original, k.of.gone[k.image.ID()], func() {})
	if err != nil {
		return nil, err
	}
	e.Name = name.String()
	return e, nil
}

// Remove stops showing a conflict image, for good, and removes its copy with the last one.
func (c *Conflicts) Remove(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.find(name)
	if !ok {
		return fault.New(fault.NotFound, "there is no image %q", name)
	}
	id, of := k.image.ID(), k.of
	left := refusal{of.shown.Ended, slices.DeleteFunc(slices.Clone(of.shown.Images), func(i events.ImageID) bool { return i == id })}
	if err := writeRefusal(c.fs, of.folder, left); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	of.shown = left
	close(of.gone[id])
	if len(left.Images) > 0 {
		return nil
	}
	c.kept = slices.DeleteFunc(c.kept, func(k *refused) bool { return k == of })
	if err := errors.Join(of.replica.Close(), replica.Destroy(c.fs, of.folder)); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// describe returns the conflict images of a directory, by name.
func (c *Conflicts) describe(directory Copy) []api.Image {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var images []api.Image
	for _, k := range c.all() {
		from := Copy{ID: directory.ID, Name: directory.Name, Replica: k.of.replica, ReadOnly: true}
		image := from.describe(k.image.Info())
		image.ConflictOf = image.Image
		image.Image, image.Name, image.Names = k.name(), directory.Name.Join(k.name()), []string{k.name()}
		images = append(images, image)
	}
	return images
}
