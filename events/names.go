package events

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrName is returned for a name that cannot be a pool, directory, image, node or
// site. The message says which name and why.
var ErrName = errors.New("invalid name")

const (
	nameBytesMax = 255
	pathBytesMax = 1024
)

// CheckName reports whether s can be one component of a name: a pool, one step of a
// directory's path, an image, a snapshot, a node or a site. It holds 1 to 255 bytes of
// UTF-8 without control or format characters, surrounding blanks, or any of / @ * > \, is
// neither "." nor "..", and does not begin with '-'. Format characters show a name as
// another one; what begins with '-' is taken for a flag.
func CheckName(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: it is empty", ErrName)
	case len(s) > nameBytesMax:
		return fmt.Errorf("%w %.20q…: longer than %d bytes", ErrName, s, nameBytesMax)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w %q: not UTF-8", ErrName, s)
	case s == "." || s == "..":
		return fmt.Errorf("%w %q: relative steps are not allowed", ErrName, s)
	case s[0] == '-':
		return fmt.Errorf("%w %q: it begins with '-'", ErrName, s)
	case strings.TrimSpace(s) != s:
		return fmt.Errorf("%w %q: blanks at an end", ErrName, s)
	}
	for _, r := range s {
		if unicode.In(r, unicode.Cc, unicode.Cf) || strings.ContainsRune(`/@*>\`, r) {
			return fmt.Errorf("%w %q: the character %q is not allowed", ErrName, s, r)
		}
	}
	return nil
}

// DirectoryName names a directory: a pool and an absolute, normalised path in it.
type DirectoryName struct {
	Pool string `json:"pool"`
	Path string `json:"path"`
}

// ImageName names an image of a directory, and a snapshot of it if Snapshot is set.
type ImageName struct {
	DirectoryName
	Image    string `json:"image"`
	Snapshot string `json:"snapshot,omitempty"`
}

// ParseDirectory reads POOL/DIR…; the pool alone is its root directory. Repeated and
// trailing slashes are dropped.
func ParseDirectory(s string) (DirectoryName, error) {
	pool, rest, _ := strings.Cut(s, "/")
	if err := CheckName(pool); err != nil {
		return DirectoryName{}, fmt.Errorf("pool of %.100q: %w", s, err)
	}
	path, err := CleanPath(rest)
	if err != nil {
		return DirectoryName{}, fmt.Errorf("directory %.100q: %w", s, err)
	}
	return DirectoryName{pool, path}, nil
}

// CleanPath returns the absolute, normalised form of a directory's path: one leading
// slash, no empty steps, none at the end. A step of ".." is refused, not resolved: it
// is never what a name means.
func CleanPath(path string) (string, error) {
	if len(path) > pathBytesMax {
		return "", fmt.Errorf("%w: the path is longer than %d bytes", ErrName, pathBytesMax)
	}
	var b strings.Builder
	for step := range strings.SplitSeq(path, "/") {
		if step == "" || step == "." {
			continue
		}
		if err := CheckName(step); err != nil {
			return "", err
		}
		b.WriteByte('/')
		b.WriteString(step)
	}
	if b.Len() == 0 {
		return "/", nil
	}
	return b.String(), nil
}

// ParseImage reads POOL/DIR…/IMAGE or POOL/DIR…/IMAGE@SNAPSHOT.
func ParseImage(s string) (ImageName, error) {
	full, snapshot, hasSnapshot := strings.Cut(s, "@")
	cut := strings.LastIndexByte(full, '/')
	if cut < 0 {
		return ImageName{}, fmt.Errorf("%w %.100q: an image is POOL/IMAGE or POOL/DIR/IMAGE", ErrName, s)
	}
	dir, err := ParseDirectory(full[:cut])
	if err != nil {
		return ImageName{}, err
	}
	if err := CheckName(full[cut+1:]); err != nil {
		return ImageName{}, fmt.Errorf("image of %.100q: %w", s, err)
	}
	if hasSnapshot {
		if err := CheckName(snapshot); err != nil {
			return ImageName{}, fmt.Errorf("snapshot of %.100q: %w", s, err)
		}
	}
	return ImageName{dir, full[cut+1:], snapshot}, nil
}

// String returns POOL/DIR…, and POOL/ for the root directory.
func (d DirectoryName) String() string { return d.Pool + d.Path }

// Join returns the full name of an image of the directory.
func (d DirectoryName) Join(image string) string {
	if d.Path == "/" {
		return d.Pool + "/" + image
	}
	return d.Pool + d.Path + "/" + image
}

// String returns POOL/DIR…/IMAGE[@SNAPSHOT].
func (n ImageName) String() string {
	s := n.Join(n.Image)
	if n.Snapshot != "" {
		s += "@" + n.Snapshot
	}
	return s
}
