package main

import (
	"context"
	"strings"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// parseSnapshot reads POOL/DIR/IMAGE@SNAPSHOT.
func parseSnapshot(s string) (events.ImageName, error) {
	name, err := events.ParseImage(s)
	switch {
	case err != nil:
		return name, fault.New(fault.Usage, "%w", err)
	case name.Snapshot == "":
		return name, fault.New(fault.Usage, "%q names no snapshot: write it like POOL/DIR/IMAGE@SNAPSHOT", s)
	}
	return name, nil
}

// sibling reads the new name of something in the same directory: one word, or the whole
// name, which must not lead elsewhere.
func sibling(dir events.DirectoryName, s string) (string, error) {
	if !strings.Contains(s, "/") {
		if err := events.CheckName(s); err != nil {
			return "", fault.New(fault.Usage, "new name: %w", err)
		}
		return s, nil
	}
	name, err := parseImage(s)
	switch {
	case err != nil:
		return "", err
	case name.DirectoryName != dir:
		return "", fault.New(fault.Usage, "new name %q: it is in another directory than %s; an image stays in the directory whose journal it is in", s, dir)
	}
	return name.Image, nil
}

// target is what IMAGE@SNAPSHOT or POOL/DIR@SNAPSHOT turned out to name. image is empty
// where it is every image of the directory.
type target struct {
	directory api.Directory
	image     string
	snapshot  string
}

// String returns the target's full name.
func (t target) String() string {
	s := t.directory.Name
	if t.image != "" {
		s = events.DirectoryName{Pool: t.directory.Pool, Path: t.directory.Path}.Join(t.image)
	}
	if t.snapshot != "" {
		s += "@" + t.snapshot
	}
	return s
}

// find asks the site what a name with or without a snapshot is: the image of that name,
// else the directory. A pool alone, or a slash at the end, can only be a directory.
func (s *client) find(ctx context.Context, text string) (target, error) {
	full, snapshot, found := strings.Cut(text, "@")
	if found {
		if err := events.CheckName(snapshot); err != nil {
			return target{}, fault.New(fault.Usage, "snapshot of %q: %w", text, err)
		}
	}
	dir, err := parseDirectory(full)
	if err != nil {
		return target{}, err
	}
	if strings.Contains(full, "/") && !strings.HasSuffix(full, "/") {
		t, err := s.findImage(ctx, full)
		if fault.CodeOf(err) != fault.NotFound {
			t.snapshot = snapshot
			return t, err
		}
	}
	d, err := call[api.Directory](ctx, s, api.DirectoryResolve, dir)
	if fault.CodeOf(err) == fault.NotFound {
		return target{}, fault.New(fault.NotFound, "there is no image and no directory %s", full)
	}
	return target{directory: d, snapshot: snapshot}, err
}

func (s *client) findImage(ctx context.Context, text string) (target, error) {
	name, err := parseImage(text)
	if err != nil {
		return target{}, err
	}
	d, err := call[api.Directory](ctx, s, api.DirectoryResolve, name.DirectoryName)
	if err != nil {
		return target{}, err
	}
	_, err = holdSettled[api.Image](ctx, s, d, settleTime, api.ImageInfo, api.ImageRequest{Image: name.Image})
	return target{directory: d, image: name.Image}, err
}
