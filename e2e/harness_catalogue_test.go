package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/nbdclient"
)

// catalogue is everything that a directory holds: images by the first of their names, with
// their contents.
type catalogue map[string]imageState

type imageState struct {
	Names    []string // sorted
	Content  []byte
	Metadata map[string]string
	Snaps    map[string]snapState
	Parent   string // IMAGE@SNAP, the image by the first of its names
}

type snapState struct {
	Content   []byte
	Protected bool
}

// clone returns a copy whose maps may be changed. Contents are never changed in place.
func (c catalogue) clone() catalogue {
	out := catalogue{}
	for key, image := range c {
		image.Names = slices.Clone(image.Names)
		image.Metadata = maps.Clone(image.Metadata)
		image.Snaps = maps.Clone(image.Snaps)
		out[key] = image
	}
	return out
}

// named returns the key of an image.
func (c catalogue) named(name string) (string, bool) {
	for key, image := range c {
		if slices.Contains(image.Names, name) {
			return key, true
		}
	}
	return "", false
}

// with returns a copy in which an image was changed, nil if there is no such image or change
// says no.
func (c catalogue) with(name string, change func(*imageState) bool) catalogue {
	key, ok := c.named(name)
	if !ok {
		return nil
	}
	out := c.clone()
	image := out[key]
	if !change(&image) {
		return nil
	}
	slices.Sort(image.Names)
	delete(out, key)
	out[image.Names[0]] = image
	out.reparent(key+"@", image.Names[0]+"@")
	return out
}

// reparent changes how the parents of clones are called.
func (c catalogue) reparent(from, to string) {
	for key, image := range c {
		if rest, ok := strings.CutPrefix(image.Parent, from); ok {
			image.Parent = to + rest
			c[key] = image
		}
	}
}

// renameParent is reparent for one snapshot.
func (c catalogue) renameParent(from, to string) {
	for key, image := range c {
		if image.Parent == from {
			image.Parent = to
			c[key] = image
		}
	}
}

// plus returns a copy with one more image.
func (c catalogue) plus(name string, content []byte, parent string) catalogue {
	out := c.clone()
	out[name] = imageState{
		Names: []string{name}, Content: content, Parent: parent,
		Metadata: map[string]string{}, Snaps: map[string]snapState{},
	}
	return out
}

// hasClones reports whether an image stands on a snapshot.
func (c catalogue) hasClones(parent string) bool {
	for _, image := range c {
		if image.Parent == parent {
			return true
		}
	}
	return false
}

// difference says how two catalogues differ; nothing if they do not.
func (c catalogue) difference(d catalogue) string {
	return cmp.Diff(c, d, cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) }))
}

// shownImage is an image as the command line shows it.
type shownImage struct {
	Names  []string `json:"names"`
	Parent string   `json:"parent"`
}

// catalogueOf reads everything that a directory holds, over the command line and NBD.
func catalogueOf(s *site, dir string) catalogue {
	s.t.Helper()
	out := catalogue{}
	for _, shown := range query[[]shownImage](s, "image", "list", dir) {
		slices.Sort(shown.Names)
		name := dir + "/" + shown.Names[0]
		image := imageState{Names: shown.Names, Parent: shown.Parent, Metadata: map[string]string{}, Snaps: map[string]snapState{}}
		image.Content = contentOf(s, name)
		for _, pair := range query[[]struct{ Key, Value string }](s, "image", "meta", "list", name) {
			image.Metadata[pair.Key] = pair.Value
		}
		for _, snap := range query[[]struct {
			Snapshot  string `json:"snapshot"`
			Protected bool   `json:"protected"`
		}](s, "snap", "list", name) {
			image.Snaps[snap.Snapshot] = snapState{contentOf(s, name+"@"+snap.Snapshot), snap.Protected}
		}
		out[shown.Names[0]] = image
	}
	for key, image := range out { // a parent may be called by any of its names
		if parent, snap, ok := strings.Cut(image.Parent, "@"); ok {
			first, _ := out.named(parent)
			image.Parent = first + "@" + snap
			out[key] = image
		}
	}
	return out
}

// contentOf reads an export whole.
func contentOf(s *site, export string) []byte {
	s.t.Helper()
	content := []byte{}
	s.contents(export, func(_ uint64, p []byte) { content = append(content, p...) })
	return content
}

// overwrite writes somewhere into an image, and returns what the catalogue becomes.
func overwrite(ctx context.Context, s *site, dir string, c catalogue, name string, at int, data []byte) (catalogue, error) {
	conn := s.dial(dir + "/" + name)
	defer goodbye(ctx, conn)
	if err := conn.WriteAt(ctx, data, uint64(at), true); err != nil {
		return nil, fmt.Errorf("write to %s: %w", name, err)
	}
	return c.with(name, func(image *imageState) bool {
		image.Content = bytes.Clone(image.Content)
		copy(image.Content[at:], data)
		return true
	}), nil
}

// goodbye ends a session in order: the server knows then that it is over.
func goodbye(ctx context.Context, conn *nbdclient.Conn) { _ = conn.Close(ctx) }

// operation is one command and what it makes of a catalogue; nil if it must be refused.
type operation struct {
	args   []string
	effect func(catalogue) catalogue
}

func (o operation) String() string { return strings.Join(o.args, " ") }
