package replica

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"
)

// check compares a replica with the model as of its mark.
func (m *model) check(t testing.TB, r *Replica) {
	t.Helper()
	if err := m.differs(r); err != nil {
		t.Fatal(err)
	}
}

func (m *model) differs(r *Replica) error {
	infos := r.Images()
	if len(infos) != len(m.images) {
		return fmt.Errorf("%d images where the model has %d", len(infos), len(m.images))
	}
	if got := r.NextImageID(); got != m.next {
		return fmt.Errorf("the next image is %d where the model has %d", got, m.next)
	}
	if got := r.NextSnapshotID(); got != m.nextSnapshot {
		return fmt.Errorf("the next snapshot is %d where the model has %d", got, m.nextSnapshot)
	}
	if got := r.Unfinished(); !slices.EqualFunc(got, m.unfinished, func(a, b Operation) bool {
		return a.Started == b.Started && fmt.Sprint(a.Intent) == fmt.Sprint(b.Intent)
	}) {
		return fmt.Errorf("unfinished are %v where the model has %v", got, m.unfinished)
	}
	for _, info := range infos {
		want := m.images[info.ID]
		if want == nil {
			return fmt.Errorf("image %d is not in the model", info.ID)
		}
		if info.Name != want.names[0] || info.Size != want.size || info.Version != want.version || info.ObjectSize != want.objectSize ||
			!slices.Equal(info.Names, slices.Sorted(slices.Values(want.names))) || info.SnapshotLimit != want.limit ||
			info.Snapshot != want.parent || info.Snapshots != len(want.snapshots) || (len(info.Features) > 0) != want.readOnly {
			return fmt.Errorf("image %+v where the model has %q %d %v", info, want.names, want.size, want.version)
		}
		img, _ := r.Image(info.ID)
		for _, name := range want.names {
			if found, ok := r.Lookup(name); !ok || found != img {
				return fmt.Errorf("image %q is not found by name", name)
			}
		}
		if !maps.Equal(img.Metadata(), want.metadata) || img.ReadOnly() != want.readOnly {
			return fmt.Errorf("metadata %v, read-only %v where the model has %v, %v", img.Metadata(), img.ReadOnly(), want.metadata, want.readOnly)
		}
		if err := want.snapshotsDiffer(m, img); err != nil {
			return fmt.Errorf("image %d (objects of %d): %w", info.ID, want.objectSize, err)
		}
		if err := want.differs(img, info); err != nil {
			return fmt.Errorf("image %d (objects of %d): %w", info.ID, want.objectSize, err)
		}
	}
	return nil
}

func (m *modelImage) differs(img *Image, info ImageInfo) error {
	if err := m.contentDiffers(img); err != nil {
		return err
	}
	var listed []uint64
	for i := range img.Objects() {
		listed = append(listed, i)
	}
	var want []uint64
	for i := range objectCount(m.size, m.objectSize) {
		if got := img.ObjectVersion(i); got != m.versions[i] {
			return fmt.Errorf("object %d has version %v where the model has %v", i, got, m.versions[i])
		}
		if m.versions[i] != 0 {
			want = append(want, i)
		}
	}
	if !slices.Equal(listed, want) {
		return fmt.Errorf("objects %v are listed, not %v", listed, want)
	}
	extents, err := img.Extents(0, m.size)
	if err != nil {
		return err
	}
	used := uint64(0)
	for _, a := range m.allocated {
		if a {
			used += BlockSize
		}
	}
	if img.active.parent == nil && info.UsedBytes != used {
		return fmt.Errorf("%d bytes are used, not %d", info.UsedBytes, used)
	}
	return extentsDiffer(extents, m.size, m.allocated)
}

func extentsDiffer(extents []Extent, size uint64, allocated []bool) error {
	at := uint64(0)
	for _, e := range extents {
		for end := at + e.Length; at < end; at += min(BlockSize, end-at) {
			if e.Hole == allocated[at/BlockSize] || e.Zero != e.Hole {
				return fmt.Errorf("hole is %v at %d where the model has allocated %v", e.Hole, at, allocated[at/BlockSize])
			}
		}
	}
	if at != size {
		return fmt.Errorf("extents reach to %d of %d bytes", at, size)
	}
	return nil
}

// snapshotsDiffer compares all snapshots of an image.
func (m *modelImage) snapshotsDiffer(all *model, img *Image) error {
	infos := img.Snapshots()
	if len(infos) != len(m.snapshots) {
		return fmt.Errorf("%d snapshots where the model has %d", len(infos), len(m.snapshots))
	}
	for i, want := range m.snapshots {
		children := 0
		for _, other := range all.images {
			if other.parent == want.id {
				children++
			}
		}
		info := infos[i]
		if info.ID != want.id || info.Name != want.name || info.Size != want.size || info.Position != want.at ||
			info.Protected != want.protected || info.Group != want.group || info.Children != children || info.Created == 0 {
			return fmt.Errorf("snapshot %+v where the model has %d %q %d %v", info, want.id, want.name, want.size, want.at)
		}
		s, ok := img.Snapshot(want.name)
		if !ok {
			return fmt.Errorf("snapshot %q is not found", want.name)
		}
		if err := want.differs(s); err != nil {
			return fmt.Errorf("snapshot %q: %w", want.name, err)
		}
	}
	return nil
}

func (m *modelSnapshot) differs(s *Snapshot) error {
	got := make([]byte, m.size)
	if _, err := s.ReadAt(got, 0); err != nil {
		return err
	}
	if i := firstDifference(got, m.data[:m.size]); i >= 0 {
		return fmt.Errorf("byte %d (block %d) is %#x where the model has %#x", i, i/BlockSize, got[i], m.data[i])
	}
	extents, err := s.Extents(0, m.size)
	if err != nil {
		return err
	}
	return extentsDiffer(extents, m.size, m.allocated)
}

// contentDiffers compares data alone, of an image in which changes may be staged.
func (m *modelImage) contentDiffers(img *Image) error {
	got := make([]byte, m.size)
	if _, err := img.ReadAt(got, 0); err != nil {
		return err
	}
	if i := firstDifference(got, m.data[:m.size]); i >= 0 {
		return fmt.Errorf("byte %d (block %d) is %#x where the model has %#x", i, i/BlockSize, got[i], m.data[i])
	}
	extents, err := img.Extents(0, m.size)
	if err != nil {
		return err
	}
	at := uint64(0)
	for _, e := range extents {
		if e.Hole != e.Zero {
			return fmt.Errorf("extent %+v", e)
		}
		if zeroes := m.data[at : at+e.Length]; e.Zero && len(bytes.Trim(zeroes, "\x00")) > 0 {
			return fmt.Errorf("extent %+v at %d holds data", e, at)
		}
		at += e.Length
	}
	return nil
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}
