package replica

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/vfs"
)

// withSnapshots returns a journal and a replica with image 1 ("a") that has the snapshots 1
// ("s1") and 2 ("s2", protected) with different content, and image 2 ("c"), a clone of s2.
func withSnapshots(t *testing.T) (*journal, *Replica) {
	j := newJournal(nil)
	j.claim(1)
	one := []events.ImageID{1}
	j.batch(
		events.ImageCreated{Image: 1, Name: "a", Size: 32 << 10, ObjectSize: 8 << 10},
		events.Written{Image: 1, Offset: 100, Data: []byte("first")},
		events.SnapshotsCreated{Name: "s1", First: 1, Images: one},
		events.Written{Image: 1, Offset: 4000, Data: []byte(strings.Repeat("second", 50))},
		events.SnapshotsCreated{Name: "s2", First: 2, Images: one},
		events.SnapshotProtected{Image: 1, Snapshot: 2},
		events.ImageCloned{Image: 2, Name: "c", Parent: 1, Snapshot: 2},
		events.Discarded{Image: 1, Offset: 0, Length: 8 << 10},
		events.MetadataSet{Image: 1, Key: "k", Value: "v"},
	)
	r := create1(t, vfs.OS(), memDir(t))
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	j.now.check(t, r)
	return j, r
}

// operations are those of the catalogue, each with how its scenarios are numbered there:
// done once, and done as start and finish behind each other.
var operations = []struct {
	name   string // journal 130..142
	inject string // journal 174..185
	intent events.Event
}{
	{"journal 130 SnapCreate", "journal 174", events.SnapshotsCreated{Name: "n", First: 3, Images: []events.ImageID{1}}},
	{"journal 131 SnapRemove", "journal 179", events.SnapshotRemoved{Image: 1, Snapshot: 1}},
	{"journal 132 SnapRename", "journal 177", events.SnapshotRenamed{Image: 1, Snapshot: 1, Name: "n"}},
	{"journal 133 SnapProtect", "journal 175", events.SnapshotProtected{Image: 1, Snapshot: 1}},
	{"journal 134 SnapUnprotect", "journal 176", events.SnapshotUnprotected{Image: 1, Snapshot: 1}},
	{"journal 135 SnapRollback", "journal 178", events.SnapshotRolledBack{Image: 1, Snapshot: 1}},
	{"journal 136 Rename", "journal 180", events.ImageRenamed{Image: 1, From: "a", To: "n"}},
	{"journal 137 Resize", "journal 181", events.ImageResized{Image: 1, Size: 9 << 10}},
	{"journal 138 Flatten", "journal 182", events.ImageFlattened{Image: 2}},
	{"journal 139 UpdateFeatures", "journal 183", events.FeatureChanged{Image: 1, Feature: events.FeatureReadOnly, Enabled: true}},
	{"journal 140 MetadataSet", "journal 184", events.MetadataSet{Image: 1, Key: "k2", Value: "v2"}},
	{"journal 141 MetadataRemove", "journal 185", events.MetadataRemoved{Image: 1, Key: "k"}},
	{"journal 142 SnapLimit", "", events.SnapshotLimitChanged{Image: 1, Limit: 5}},
	{"group snapshot", "", events.SnapshotsCreated{Name: "g", Group: true, First: 3, Images: []events.ImageID{1, 2}}},
	{"link", "", events.ImageLinked{Image: 1, Name: "n"}},
	{"clone", "", events.ImageCloned{Image: 3, Name: "n", Parent: 1, Snapshot: 2}},
	{"remove", "", events.ImageRemoved{Image: 2}},
}

// TestOperation starts an operation, goes through a checkpoint and a restart, and finishes
// it: nothing but the list of unfinished ones changes before the finish.
func TestOperation(t *testing.T) {
	for _, o := range operations {
		t.Run(o.name+" "+o.inject, func(t *testing.T) {
			j, r := withSnapshots(t)
			if o.inject == "journal 176" {
				mustApply(t, r, j.batch(events.SnapshotProtected{Image: 1, Snapshot: 1}))
			}
			mustApply(t, r, j.batch(events.OperationStarted{Intent: o.intent}))
			started := j.mark.Position
			j.now.check(t, r)
			mustCheckpoint(t, r)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			r = reopen(t, vfs.OS(), r.dir)
			j.now.check(t, r)
			before, err := r.Check(o.intent)
			if want := j.now.before(o.intent); err != nil || !slices.Equal(before, want) {
				t.Fatalf("check: %v, %v where the model has %v", before, err, want)
			}
			mustApply(t, r, j.batch(events.OperationFinished{Started: started}))
			j.now.check(t, r)
			mustCheckpoint(t, r)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			r = reopen(t, vfs.OS(), r.dir)
			j.now.check(t, r)
			// The same kind again, live.
			mustApply(t, r, j.batch(events.SnapshotsCreated{Name: "live", First: j.now.nextSnapshot, Images: []events.ImageID{1}}))
			j.now.check(t, r)
		})
	}
}

// TestFinishThatChangesNothing covers finishes that make nothing true.
func TestFinishThatChangesNothing(t *testing.T) {
	intent := events.SnapshotRemoved{Image: 1, Snapshot: 1}
	t.Run("journal 124 finish with an error", func(t *testing.T) {
		j, r := withSnapshots(t)
		mustApply(t, r, j.batch(events.OperationStarted{Intent: intent}))
		mustApply(t, r, j.batch(events.OperationFinished{Started: j.mark.Position, Failure: "internal"}))
		j.now.check(t, r)
		if img, _ := r.Image(1); len(img.Snapshots()) != 2 || len(r.Unfinished()) != 0 {
			t.Error("a failed removal removed something, or is still unfinished")
		}
	})
	t.Run("journal 155 unprotect that is recorded as busy", func(t *testing.T) {
		j, r := withSnapshots(t)
		mustApply(t, r, j.batch(events.OperationStarted{Intent: events.SnapshotUnprotected{Image: 1, Snapshot: 2}}))
		mustApply(t, r, j.batch(events.OperationFinished{Started: j.mark.Position, Failure: string(fault.Busy)}))
		j.now.check(t, r)
	})
	t.Run("journal 128 finish of an unknown start", func(t *testing.T) {
		j, r := withSnapshots(t)
		mustApply(t, r, j.batch(events.OperationFinished{Started: events.At(1, 99)}))
		j.now.check(t, r)
	})
}

// TestRepeatedEntry applies again, at another position, an entry that recovery replays with
// its version: what it made true already stays as it is.
func TestRepeatedEntry(t *testing.T) {
	names := map[int]string{
		0: "journal 150 SnapCreate", 1: "journal 151 SnapRemove", 2: "journal 152 SnapRename", 3: "journal 153 SnapProtect",
		4: "journal 154 SnapUnprotect", 6: "journal 156 Rename", 8: "journal 157 Flatten", 11: "journal 158 MetadataRemove",
		12: "journal 159 SnapLimit",
	}
	for i, name := range names {
		t.Run(name, func(t *testing.T) {
			j, r := withSnapshots(t)
			if i == 4 {
				mustApply(t, r, j.batch(events.SnapshotProtected{Image: 1, Snapshot: 1}))
			}
			intent := operations[i].intent
			before := j.now.before(intent)
			mustApply(t, r, j.batch(intent))
			again := *j
			b := events.NewBatchBuilder(nil)
			b.Append(events.Entry{Version: j.mark.Position, Before: before, Event: intent})
			mustApply(t, r, again.seal(b))
			j.now.check(t, r)
		})
	}
}

// TestRefusedOperations lists what Check refuses; Apply of the same entry is corrupt, and
// changes nothing (journal 160: the error of no operation is ignored).
func TestRefusedOperations(t *testing.T) {
	long := strings.Repeat("x", 256)
	one := []events.ImageID{1}
	cases := []struct {
		name   string
		code   fault.Code
		intent events.Event
	}{
		{"create over a name", fault.Exists, events.ImageCreated{Image: 9, Name: "a", Size: 1, ObjectSize: 4096}},
		{"create with a number used before", fault.Exists, events.ImageCreated{Image: 2, Name: "n", Size: 1, ObjectSize: 4096}},
		{"create without a size", fault.Usage, events.ImageCreated{Image: 9, Name: "n", ObjectSize: 4096}},
		{"create with a bad name", fault.Usage, events.ImageCreated{Image: 9, Name: "a@b", Size: 1, ObjectSize: 4096}},
		{"clone of nothing", fault.NotFound, events.ImageCloned{Image: 9, Name: "n", Parent: 1, Snapshot: 7}},
		{"clone of another image's snapshot", fault.NotFound, events.ImageCloned{Image: 9, Name: "n", Parent: 2, Snapshot: 2}},
		{"clone of what is not protected", fault.Busy, events.ImageCloned{Image: 9, Name: "n", Parent: 1, Snapshot: 1}},
		{"clone over a name", fault.Exists, events.ImageCloned{Image: 9, Name: "a", Parent: 1, Snapshot: 2}},
		{"resize of nothing", fault.NotFound, events.ImageResized{Image: 9, Size: 1}},
		{"resize to nothing", fault.Usage, events.ImageResized{Image: 1}},
		{"remove with snapshots", fault.Busy, events.ImageRemoved{Image: 1}},
		{"rename of another's name", fault.NotFound, events.ImageRenamed{Image: 1, From: "c", To: "n"}},
		{"rename to a name", fault.Exists, events.ImageRenamed{Image: 1, From: "a", To: "c"}},
		{"link to a name", fault.Exists, events.ImageLinked{Image: 1, Name: "c"}},
		{"unlink the last name", fault.Busy, events.ImageUnlinked{Image: 1, Name: "a"}},
		{"unlink another's name", fault.NotFound, events.ImageUnlinked{Image: 1, Name: "c"}},
		{"flatten what is no clone", fault.Usage, events.ImageFlattened{Image: 1}},
		{"unknown feature", fault.Usage, events.FeatureChanged{Image: 1, Feature: "layering", Enabled: true}},
		{"metadata without a key", fault.Usage, events.MetadataSet{Image: 1, Value: "v"}},
		{"metadata with a long key", fault.Usage, events.MetadataSet{Image: 1, Key: long}},
		{"metadata with a long value", fault.Usage, events.MetadataSet{Image: 1, Key: "k", Value: strings.Repeat("v", events.MetadataValueMax+1)}},
		{"metadata that is not there", fault.NotFound, events.MetadataRemoved{Image: 1, Key: "no"}},
		{"snapshot over a name", fault.Exists, events.SnapshotsCreated{Name: "s1", First: 3, Images: one}},
		{"snapshot with a number used before", fault.Exists, events.SnapshotsCreated{Name: "n", First: 2, Images: one}},
		{"snapshot with a bad name", fault.Usage, events.SnapshotsCreated{Name: "a/b", First: 3, Images: one}},
		{"snapshot of no image", fault.Usage, events.SnapshotsCreated{Name: "n", First: 3}},
		{"snapshot of one image twice", fault.Usage, events.SnapshotsCreated{Name: "n", First: 3, Images: []events.ImageID{1, 1}}},
		{"snapshot of nothing", fault.NotFound, events.SnapshotsCreated{Name: "n", First: 3, Images: []events.ImageID{9}}},
		{"snapshot beyond the last number", fault.NoSpace, events.SnapshotsCreated{Name: "n", First: 1<<32 - 1, Images: one}},
		{"snapshot remove of nothing", fault.NotFound, events.SnapshotRemoved{Image: 1, Snapshot: 9}},
		{"snapshot remove, protected", fault.Busy, events.SnapshotRemoved{Image: 1, Snapshot: 2}},
		{"snapshot rename to a name", fault.Exists, events.SnapshotRenamed{Image: 1, Snapshot: 1, Name: "s2"}},
		{"snapshot rename to a bad name", fault.Usage, events.SnapshotRenamed{Image: 1, Snapshot: 1, Name: ""}},
		{"protect twice", fault.Busy, events.SnapshotProtected{Image: 1, Snapshot: 2}},
		{"unprotect what is not protected", fault.Usage, events.SnapshotUnprotected{Image: 1, Snapshot: 1}},
		{"unprotect with clones", fault.Busy, events.SnapshotUnprotected{Image: 1, Snapshot: 2}},
		{"limit below what there is", fault.Usage, events.SnapshotLimitChanged{Image: 1, Limit: 1}},
		{"limit above the most", fault.Usage, events.SnapshotLimitChanged{Image: 1, Limit: events.SnapshotsMax + 1}},
		{"no operation", fault.Usage, events.Flushed{}},
	}
	j, r := withSnapshots(t)
	for _, c := range cases {
		if _, err := r.Check(c.intent); fault.CodeOf(err) != c.code {
			t.Errorf("%s: %v, code %s", c.name, err, fault.CodeOf(err))
		}
		if c.intent == events.Event(events.Flushed{}) {
			continue
		}
		e := events.Entry{Event: c.intent}
		e.Before = r.versions(c.intent)
		if err := r.Apply(j.entries(e), 1); fault.CodeOf(err) != fault.Corrupt && fault.CodeOf(err) != fault.VersionMismatch {
			t.Errorf("apply %s: %v", c.name, err)
		}
	}
	j.now.check(t, r)
	mustApply(t, r, j.batch(events.Written{Image: 1, Data: []byte("still usable")}))
}

// TestReadOnlyImage: the feature stops what changes data in Check; Apply does not look at it.
func TestReadOnlyImage(t *testing.T) {
	j, r := withSnapshots(t)
	mustApply(t, r, j.batch(events.FeatureChanged{Image: 1, Feature: events.FeatureReadOnly, Enabled: true}))
	for _, intent := range []events.Event{events.ImageResized{Image: 1, Size: 4096}, events.SnapshotRolledBack{Image: 1, Snapshot: 1}} {
		if _, err := r.Check(intent); fault.CodeOf(err) != fault.ReadOnly {
			t.Errorf("check %T: %v", intent, err)
		}
	}
	mustApply(t, r, j.batch(events.Written{Image: 1, Data: []byte("the owner let it pass")}))
	j.now.check(t, r)
}

func TestLimits(t *testing.T) {
	j, r := withSnapshots(t)
	mustApply(t, r, j.batch(events.SnapshotLimitChanged{Image: 1, Limit: 2}))
	if _, err := r.Check(events.SnapshotsCreated{Name: "n", First: 3, Images: []events.ImageID{1}}); fault.CodeOf(err) != fault.NoSpace {
		t.Errorf("a snapshot above the limit: %v", err)
	}
	for i := len(j.now.images[1].metadata); i < MetadataMax; i++ {
		mustApply(t, r, j.batch(events.MetadataSet{Image: 1, Key: fmt.Sprintf("key%d", i), Value: "v"}))
	}
	if _, err := r.Check(events.MetadataSet{Image: 1, Key: "more"}); fault.CodeOf(err) != fault.NoSpace {
		t.Errorf("metadata above the most: %v", err)
	}
	if _, err := r.Check(events.MetadataSet{Image: 1, Key: "k", Value: "other"}); err != nil {
		t.Errorf("a key that is there: %v", err)
	}
	for i := 1; i < NamesMax; i++ {
		mustApply(t, r, j.batch(events.ImageLinked{Image: 1, Name: strings.Repeat("n", i)}))
	}
	if _, err := r.Check(events.ImageLinked{Image: 1, Name: "more"}); fault.CodeOf(err) != fault.NoSpace {
		t.Errorf("a name above the most: %v", err)
	}
	j.now.check(t, r)
	mustCheckpoint(t, r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	j.now.check(t, reopen(t, vfs.OS(), r.dir))
}

// TestNumbersOfImagesEnd gives out the last number but one: behind it there must be a next.
func TestNumbersOfImagesEnd(t *testing.T) {
	j, r := withSnapshots(t)
	const last = math.MaxUint32
	for _, intent := range []events.Event{
		events.ImageCreated{Image: last, Name: "new", Size: 1, ObjectSize: BlockSize},
		events.ImageCloned{Image: last, Name: "new", Parent: 1, Snapshot: 2},
	} {
		if _, err := r.Check(intent); fault.CodeOf(err) != fault.NoSpace {
			t.Errorf("check %T: %v", intent, err)
		}
	}
	mustApply(t, r, j.batch(events.ImageCreated{Image: last - 1, Name: "new", Size: 1, ObjectSize: BlockSize}))
	if next := r.NextImageID(); next != last {
		t.Errorf("next is %d", next)
	}
	if err := r.Apply(j.batch(events.ImageCreated{Image: last, Name: "more", Size: 1, ObjectSize: BlockSize}), 1); fault.CodeOf(err) != fault.Corrupt {
		t.Errorf("apply: %v", err)
	}
}

// TestRemovedSnapshot reads a snapshot that goes while somebody holds it.
func TestRemovedSnapshot(t *testing.T) {
	j, r := withSnapshots(t)
	img, _ := r.Image(1)
	s, ok := img.Snapshot("s1")
	if !ok || s.ID() != 1 || s.Name() != "s1" || s.Size() != 32<<10 || s.Info().Position == 0 {
		t.Fatalf("snapshot %+v", s)
	}
	if _, err := s.ReadAt(make([]byte, 2), 32<<10-1); !errors.Is(err, ErrRange) {
		t.Errorf("read beyond the end: %v", err)
	}
	if image, snapshot, ok := imageNamed(t, r, "c").Parent(); !ok || image != 1 || snapshot != 2 {
		t.Errorf("the clone's parent is %d, %d", image, snapshot)
	}
	mustApply(t, r, j.batch(events.SnapshotRemoved{Image: 1, Snapshot: 1}))
	<-s.Removed()
	if _, err := s.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("read of a removed snapshot: %v", err)
	}
	if _, err := s.Extents(0, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("extents of a removed snapshot: %v", err)
	}
}

func imageNamed(t *testing.T, r *Replica, name string) *Image {
	t.Helper()
	img, ok := r.Lookup(name)
	if !ok {
		t.Fatalf("there is no image %q", name)
	}
	return img
}

// TestOperationJSON carries an unfinished operation as a first sync does.
func TestOperationJSON(t *testing.T) {
	for _, o := range operations {
		in := Operation{events.At(3, 4), o.intent}
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out Operation
		if err := json.Unmarshal(b, &out); err != nil {
			t.Fatal(err)
		}
		if a, b := events.EncodeEntry(events.Entry{Event: in.Intent}), events.EncodeEntry(events.Entry{Event: out.Intent}); out.Started != in.Started || !slices.Equal(a, b) {
			t.Errorf("%v became %v", in, out)
		}
	}
	for what, bad := range map[string]string{"no start": `{"started":{"tag":1,"entry":1},"entry":"kwYAkA=="}`, "rubbish": `{"entry":"AA=="}`} {
		if err := json.Unmarshal([]byte(bad), new(Operation)); err == nil {
			t.Errorf("%s was read", what)
		}
	}
}
