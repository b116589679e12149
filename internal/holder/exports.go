package holder

import (
	"context"
	"slices"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/nbd"
	"tidemark/internal/replica"
)

// Held is a directory that a service of this node holds, as NBD clients see it.
type Held interface {
	DirectoryName() events.DirectoryName
	// Served returns the copy whose images are exported now; an error while none is.
	Served() (*replica.Replica, error)
	// Kept returns the conflict images that are exported too; nil if there are none.
	Kept() *Conflicts
	// Export opens an image or a snapshot of the directory.
	Export(ctx context.Context, name events.ImageName) (nbd.Device, error)
}

// Exports are the images of the directories that a service holds.
type Exports[Directory Held] struct {
	Held func() []Directory
}

// List implements [nbd.Exports].
func (e Exports[Directory]) List(context.Context) ([]string, error) {
	var names []string
	for _, d := range e.Held() {
		for _, name := range d.Kept().Names() {
			names = append(names, d.DirectoryName().Join(name))
		}
		served, err := d.Served()
		if err != nil {
			continue
		}
		names = append(names, exported(d.DirectoryName(), served)...)
	}
	slices.Sort(names)
	return names, nil
}

// exported lists a copy's images under all their names, and their snapshots.
func exported(directory events.DirectoryName, r *replica.Replica) []string {
	var names []string
	for _, info := range r.Images() {
		for _, name := range info.Names {
			names = append(names, directory.Join(name))
		}
		image, ok := r.Image(info.ID)
		if !ok || info.Snapshots == 0 {
			continue
		}
		for _, s := range image.Snapshots() {
			names = append(names, directory.Join(info.Name)+"@"+s.Name)
		}
	}
	return names
}

// Open implements [nbd.Exports].
func (e Exports[Directory]) Open(ctx context.Context, name string) (nbd.Device, error) {
	image, err := events.ParseImage(name)
	if err != nil {
		return nil, fault.New(fault.NotFound, "export: %w", err)
	}
	for _, d := range e.Held() {
		if d.DirectoryName() == image.DirectoryName {
			if kept := d.Kept(); kept.Has(image.Image) && !serves(d, image.Image) {
				return kept.Export(image)
			}
			return d.Export(ctx, image)
		}
	}
	return nil, fault.New(fault.NotFound, "this node serves no export %q", name)
}

// serves reports whether a directory's copy has an image of a name.
func serves(d Held, image string) bool {
	served, err := d.Served()
	if err != nil {
		return false
	}
	_, ok := served.Lookup(image)
	return ok
}
