package replica

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/vfs"
)

func TestSyncRefusals(t *testing.T) {
	j := newJournal(rand.New(rand.NewPCG(1, 6)).IntN)
	j.claim(1)
	j.batch(events.ImageCreated{Image: 1, Name: "a", Size: 64 << 10, ObjectSize: 8 << 10})
	j.batch(events.Written{Image: 1, Offset: 0, Data: []byte("hello")})
	source := create1(t, vfs.OS(), filepath.Join(memDir(t), "source"))
	if err := replay(source, j.messages); err != nil {
		t.Fatal(err)
	}
	start, err := source.SyncStart()
	if err != nil {
		t.Fatal(err)
	}
	c, err := source.CopyObject(1, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := source.BeginSync(start); !errors.Is(err, ErrExists) {
		t.Errorf("begin over content: %v", err)
	}
	if err := source.InstallObject(1, 0, c); !errors.Is(err, ErrNotSyncing) {
		t.Errorf("install without a sync: %v", err)
	}
	if err := source.EndSync(start.Mark.Position, start.Mark.Position); !errors.Is(err, ErrNotSyncing) {
		t.Errorf("end without a sync: %v", err)
	}
	follower := create1(t, vfs.OS(), filepath.Join(memDir(t), "follower"))
	twice := start
	twice.Images = append(twice.Images[:1:1], twice.Images[0])
	if err := follower.BeginSync(twice); fault.CodeOf(err) != fault.Corrupt {
		t.Errorf("begin with one image twice: %v", err)
	}
	if err := follower.BeginSync(start); err != nil {
		t.Fatal(err)
	}
	if err := follower.BeginSync(start); !errors.Is(err, ErrExists) {
		t.Errorf("begin twice: %v", err)
	}
	if err := follower.Apply(j.batch(events.Written{Image: 1, Offset: 0, Data: []byte("x")}), 1); !errors.Is(err, ErrSyncing) {
		t.Errorf("apply in a sync: %v", err)
	}
	if _, err := follower.SyncStart(); !errors.Is(err, ErrSyncing) {
		t.Errorf("a follower in a sync as a source: %v", err)
	}
	refuseCopies(t, follower, c)
	if err := follower.InstallObject(2, 0, c); !errors.Is(err, ErrNotFound) {
		t.Errorf("install into no image: %v", err)
	}
	// An object that never came is found out when an entry needs it and nothing drops it.
	endless := c
	endless.AtMost = ^events.Position(0)
	if err := follower.InstallObject(1, 0, endless); err != nil {
		t.Fatal(err)
	}
	if err := follower.EndSync(start.Mark.Position, start.Mark.Position); fault.CodeOf(err) != fault.Corrupt || !follower.Syncing() {
		t.Errorf("end with a copy from behind the journal's end: %v", err)
	}
	follower = create1(t, vfs.OS(), filepath.Join(memDir(t), "another"))
	if err := follower.BeginSync(start); err != nil {
		t.Fatal(err)
	}
	if err := follower.EndSync(start.Mark.Position, start.Mark.Position); err != nil {
		t.Fatal(err)
	}
	var mismatch *MismatchError
	if err := follower.Apply(j.messages[3], 1); !errors.As(err, &mismatch) {
		t.Errorf("apply to an object that never came: %v", err)
	}
}

// refuseCopies installs copies that cannot be, made of a good one.
func refuseCopies(t *testing.T, follower *Replica, c ObjectCopy) {
	t.Helper()
	stale := c
	stale.AtLeast--
	short := c
	short.Data = short.Data[1:]
	alien := c
	alien.Blocks = []uint64{1 << 2}
	ahead := c
	ahead.Version = c.AtMost + 1
	for what, bad := range map[string]struct {
		c    ObjectCopy
		want func(error) bool
	}{
		"stale": {stale, func(err error) bool { return errors.Is(err, ErrStale) }},
		"short": {short, func(err error) bool { return fault.CodeOf(err) == fault.Corrupt }},
		"ahead": {ahead, func(err error) bool { return fault.CodeOf(err) == fault.Corrupt }},
		"alien": {alien, func(err error) bool { return fault.CodeOf(err) == fault.Corrupt }},
	} {
		if err := follower.InstallObject(1, 0, bad.c); !bad.want(err) {
			t.Errorf("install of a %s copy: %v", what, err)
		}
	}
}

// TestObjectThatNeverCame leaves an object out of a sync: replay goes on as if the
// source had dropped it, and finds out that it had not.
func TestObjectThatNeverCame(t *testing.T) {
	j := twoImages()
	j.batch(events.Written{Image: 1, Data: []byte("hello")})
	source := create1(t, vfs.OS(), filepath.Join(memDir(t), "source"))
	if err := replay(source, j.messages); err != nil {
		t.Fatal(err)
	}
	start, err := source.SyncStart()
	if err != nil {
		t.Fatal(err)
	}
	for _, drop := range []bool{false, true} {
		j := *j
		j.now = j.now.clone()
		dir := filepath.Join(memDir(t), "follower")
		follower := create1(t, vfs.OS(), dir)
		if err := follower.BeginSync(start); err != nil {
			t.Fatal(err)
		}
		first := j.batch(events.Written{Image: 1, Data: []byte("x")})
		var second *events.Batch
		if drop {
			second = j.batch(events.ImageRemoved{Image: 1})
		} else {
			second = j.batch(events.Written{Image: 1, Offset: 20 << 10, Data: []byte("y")})
		}
		if err := follower.EndSync(second.End.Position, second.End.Position); err != nil {
			t.Fatal(err)
		}
		mustApply(t, follower, first)
		mustCheckpoint(t, follower)
		if err := follower.Close(); err != nil {
			t.Fatal(err)
		}
		follower = reopen(t, vfs.OS(), dir) // what is missing is remembered
		err := follower.Apply(second, 1)
		var mismatch *MismatchError
		if drop && err != nil || !drop && !errors.As(err, &mismatch) {
			t.Errorf("drop %v: %v", drop, err)
		}
		if drop {
			j.now.check(t, follower)
		}
		if _, err := follower.Checkpoint(t.Context()); (err == nil) != drop {
			t.Errorf("drop %v: checkpoint: %v", drop, err)
		}
	}
}

// TestSyncAcrossMerge breaks a first sync off, lets the source merge the layers that it was
// about, and goes on: the layer that is left has another parent than here, so it is copied
// again, whatever came before.
func TestSyncAcrossMerge(t *testing.T) {
	j := newJournal(nil)
	j.claim(1)
	j.batch(
		events.ImageCreated{Image: 1, Name: "a", Size: 16 << 10, ObjectSize: 8 << 10},
		events.Written{Image: 1, Data: []byte("below")},
		events.SnapshotsCreated{Name: "s", First: 1, Images: []events.ImageID{1}},
		events.Written{Image: 1, Offset: BlockSize, Data: []byte("above")},
	)
	source, follower := create1(t, vfs.OS(), filepath.Join(memDir(t), "source")), create1(t, vfs.OS(), filepath.Join(memDir(t), "follower"))
	if err := replay(source, j.messages); err != nil {
		t.Fatal(err)
	}
	if err := follower.BeginSync(startOf(t, source)); err != nil {
		t.Fatal(err)
	}
	install := func() {
		t.Helper()
		c, err := source.CopyObject(2, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := follower.InstallObject(2, 0, c); err != nil {
			t.Fatal(err)
		}
	}
	install()
	mustApply(t, source, j.batch(events.SnapshotRemoved{Image: 1, Snapshot: 1}))
	compactAll(t, source)
	if _, err := source.CopyObject(1, 0, nil); !errors.Is(err, ErrNotFound) {
		t.Fatalf("copy from a merged layer: %v", err)
	}
	if there, here := source.Layers()[0], follower.Layers()[1]; there.ID != 2 || here.ID != 2 || there.Parent == here.Parent {
		t.Fatalf("layers %+v and %+v do not tell the merge", there, here)
	}
	install()
	if err := follower.EndSync(source.Applied().Position, source.Applied().Position); err != nil {
		t.Fatal(err)
	}
	if err := replay(follower, j.messages); err != nil {
		t.Fatal(err)
	}
	j.now.check(t, follower)
}

// TestSyncContinues: a first sync goes on only with a source that has the layers which it
// was begun with, and none on its way into another.
func TestSyncContinues(t *testing.T) {
	chain := func(ids ...LayerID) (layers []LayerRecord) {
		parent := LayerID(0)
		for _, id := range ids {
			layers = append(layers, LayerRecord{ID: id, Parent: parent})
			parent = id
		}
		return layers
	}
	for _, c := range []struct {
		name         string
		waiting, now []LayerRecord
		snapshots    []LayerID // the layers that they name now
		want         bool
	}{
		{"as they were", chain(1, 2, 3), chain(1, 2, 3), []LayerID{1, 2}, true},
		{"one came", chain(1, 2, 3), chain(1, 2, 3, 4), []LayerID{1, 2, 3}, true},
		{"a branch came", chain(1, 2), append(chain(1, 2), LayerRecord{ID: 3, Parent: 1}), nil, true},
		{"one was dropped", chain(1, 2, 3), chain(1, 2), []LayerID{1, 2}, false},
		{"one was merged into another", chain(1, 2, 3), chain(1, 3), []LayerID{1}, false},
		{"one may be merged in part", chain(1, 2, 3), chain(1, 2, 3), []LayerID{1}, false},
		{"one is apart again", chain(2, 3), append(chain(1, 2), LayerRecord{ID: 3, Parent: 2}), []LayerID{1, 2}, false},
		{"one that was no parent is apart again", chain(2), append(chain(2), LayerRecord{ID: 1}), nil, false},
		{"one was cut off", chain(1, 2, 3), append(chain(1, 2), LayerRecord{ID: 3}), []LayerID{1, 2}, false},
	} {
		start := SyncStart{Layers: c.now}
		for _, layer := range c.snapshots {
			start.Snapshots = append(start.Snapshots, SnapshotRecord{Layer: layer})
		}
		if err := start.Continues(c.waiting); (err == nil) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestSyncedBeyondTheHistory has a source die whose newest entries nobody else has, just after
// its objects were copied: the history that goes on without them is not this copy's, whatever
// its positions.
func TestSyncedBeyondTheHistory(t *testing.T) {
	for _, has := range []bool{false, true} { // the next owner has the entries
		j := twoImages()
		start := *j
		start.now = j.now.clone()
		source := create1(t, vfs.OS(), filepath.Join(memDir(t), "source"))
		if err := replay(source, j.messages); err != nil {
			t.Fatal(err)
		}
		begin, err := source.SyncStart()
		if err != nil {
			t.Fatal(err)
		}
		follower := create1(t, vfs.OS(), filepath.Join(memDir(t), "follower"))
		if err := follower.BeginSync(begin); err != nil {
			t.Fatal(err)
		}
		lost := j.batch(events.Written{Image: 1, Data: []byte("nobody else has it")})
		mustApply(t, source, lost)
		copied, err := source.CopyObject(follower.Layers()[0].ID, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := follower.InstallObject(follower.Layers()[0].ID, 0, copied); err != nil {
			t.Fatal(err)
		}
		if err := follower.EndSync(lost.End.Position, lost.End.Position); err != nil {
			t.Fatal(err)
		}
		next := &start
		if has {
			next = j
		}
		next.claim(7)
		err = replay(follower, next.messages[2:])
		if has && err != nil || !has && !errors.Is(err, ErrAstray) {
			t.Errorf("the next owner has the entries: %v; %v", has, err)
		}
		if has {
			next.now.check(t, follower)
		} else if follower.Consistent() {
			t.Error("a copy is consistent that has an entry which its history lacks")
		}
	}
}
