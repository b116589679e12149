package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/vfs"
)

// twoImages returns a journal with a tag and two images of four objects of 8 KiB.
func twoImages() *journal {
	j := newJournal(rand.New(rand.NewPCG(1, 7)).IntN)
	j.claim(1)
	j.batch(
		events.ImageCreated{Image: 1, Name: "a", Size: 32 << 10, ObjectSize: 8 << 10},
		events.ImageCreated{Image: 2, Name: "b", Size: 32 << 10, ObjectSize: 8 << 10},
	)
	return j
}

func TestGapAndDivergence(t *testing.T) {
	j := twoImages()
	fork := *j
	fork.now = j.now.clone()
	write := func(b byte) events.Event { return events.Written{Image: 1, Data: []byte{b}} }
	first, second := j.batch(write(1)), j.batch(write(2))
	other := fork.batch(write(3))
	otherLong := fork.batch(write(3), write(3), write(3))
	fork.claim(2) // of another site, and below the next tag of ours
	otherTag := fork.messages[len(fork.messages)-1]
	otherEntries := fork.batch(write(4))
	j.claim(1)
	ownTag := j.messages[len(j.messages)-1]
	third := j.batch(write(5))
	j.claim(3)
	j.claim(1)

	r := create1(t, vfs.OS(), memDir(t))
	if err := replay(r, j.messages[:3]); err != nil { // up to first
		t.Fatal(err)
	}
	cases := []struct {
		name     string
		m        events.JournalMessage
		diverged bool
		behind   bool
	}{
		{"one message is missing", third, false, false},
		{"the message before the tag is missing", ownTag, false, false},
		{"applied already", first, false, true},
		{"applied long ago", j.messages[1], false, true},
		{"its tag applied already", j.messages[0], false, true},
		{"same position, other chain", other, true, false},
		{"next position, other chain", otherLong, true, false},
	}
	check := func() {
		t.Helper()
		for _, c := range cases {
			err := r.Apply(c.m, 1)
			var gap *GapError
			switch {
			case errors.Is(err, ErrDiverged) != c.diverged, errors.Is(err, ErrGap) == c.diverged:
				t.Errorf("%s: %v", c.name, err)
			case c.diverged && fault.CodeOf(err) != fault.SplitBrain:
				t.Errorf("%s: code %s", c.name, fault.CodeOf(err))
			case !c.diverged && (!errors.As(err, &gap) || gap.Behind() != c.behind):
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
	check()
	mustApply(t, r, second) // refusals leave it usable
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	cases = cases[:0]
	cases = append(cases, []struct {
		name     string
		m        events.JournalMessage
		diverged bool
		behind   bool
	}{
		{"entries that the next tag left out", otherLong, true, false},
		{"a tag that is not in our history", otherTag, true, false},
		{"entries of a tag that is not in our history", otherEntries, true, false},
		{"entries of an earlier tag", third, false, true},
		{"an earlier tag", ownTag, false, true},
	}...)
	check()
}

func TestTagThatSkipsUs(t *testing.T) {
	j := twoImages()
	r := create1(t, vfs.OS(), memDir(t))
	fork := *j
	fork.now = j.now.clone()
	fork.claim(2)
	j.batch(events.Written{Image: 1, Data: []byte{1}})
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	// The other site took over without our last entry.
	if err := r.Apply(fork.messages[len(fork.messages)-1], 1); !errors.Is(err, ErrDiverged) {
		t.Errorf("a tag that continues before what was applied: %v", err)
	}
}

// entries appends a message of entries as they are.
func (j *journal) entries(es ...events.Entry) *events.Batch {
	b := events.NewBatchBuilder(nil)
	for _, e := range es {
		b.Append(e)
	}
	fork := *j
	return fork.seal(b)
}

func TestRefusedEntries(t *testing.T) {
	zero := []events.Position{0}
	created := events.At(events.Tag(4097), 1)
	cases := []struct {
		name string
		e    events.Entry
		code fault.Code
	}{
		{"object is older", events.Entry{Before: []events.Position{9}, Event: events.Written{Image: 2, Data: []byte{1}}}, fault.VersionMismatch},
		{"object is newer", events.Entry{Before: zero, Event: events.Written{Image: 1, Data: []byte{1}}}, fault.VersionMismatch},
		{"one of two objects is newer", events.Entry{Before: []events.Position{0, 7}, Event: events.Discarded{Image: 2, Length: 9 << 10}}, fault.VersionMismatch},
		{"name is taken", events.Entry{Before: zero, Event: events.ImageCreated{Image: 3, Name: "a", Size: 4096, ObjectSize: 4096}}, fault.VersionMismatch},
		{"name is taken, version right", events.Entry{Before: []events.Position{created}, Event: events.ImageCreated{Image: 3, Name: "a", Size: 4096, ObjectSize: 4096}}, fault.VersionMismatch},
		{"image is of another version", events.Entry{Before: []events.Position{9}, Event: events.ImageResized{Image: 1, Size: 4096}}, fault.VersionMismatch},
		{"removed image is of another version", events.Entry{Before: []events.Position{9}, Event: events.ImageRemoved{Image: 1}}, fault.VersionMismatch},
		{"removed image is not there", events.Entry{Before: []events.Position{9}, Event: events.ImageRemoved{Image: 7}}, fault.VersionMismatch},
		{"image is not there", events.Entry{Before: zero, Event: events.Written{Image: 7, Data: []byte{1}}}, fault.Corrupt},
		{"beyond the end", events.Entry{Before: zero, Event: events.Written{Image: 1, Offset: 32<<10 - 1, Data: []byte{1, 2}}}, fault.Corrupt},
		{"far beyond the end", events.Entry{Before: zero, Event: events.Discarded{Image: 1, Offset: 1 << 63, Length: 1 << 63}}, fault.Corrupt},
		{"empty", events.Entry{Before: zero, Event: events.Zeroed{Image: 1, Offset: 1}}, fault.Corrupt},
		{"too few versions", events.Entry{Before: zero, Event: events.Zeroed{Image: 2, Length: 9 << 10}}, fault.Corrupt},
		{"too many versions", events.Entry{Before: []events.Position{0, 0}, Event: events.Zeroed{Image: 2, Length: 1}}, fault.Corrupt},
		{"no version", events.Entry{Event: events.ImageRemoved{Image: 1}}, fault.Corrupt},
		{"number used before", events.Entry{Before: zero, Event: events.ImageCreated{Image: 1, Name: "c", Size: 4096, ObjectSize: 4096}}, fault.Corrupt},
		{"odd object size", events.Entry{Before: zero, Event: events.ImageCreated{Image: 3, Name: "c", Size: 4096, ObjectSize: 5000}}, fault.Corrupt},
		{"too large", events.Entry{Before: zero, Event: events.ImageCreated{Image: 3, Name: "c", Size: 1 << 62, ObjectSize: 4096}}, fault.Corrupt},
		{"bad name", events.Entry{Before: zero, Event: events.ImageCreated{Image: 3, Name: "../c", Size: 4096, ObjectSize: 4096}}, fault.Corrupt},
		{"no size", events.Entry{Before: []events.Position{created}, Event: events.ImageResized{Image: 1}}, fault.Corrupt},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			j := twoImages()
			j.batch(events.Written{Image: 1, Data: []byte("abc")})
			r := create1(t, vfs.OS(), memDir(t))
			if err := replay(r, j.messages); err != nil {
				t.Fatal(err)
			}
			if err := r.Apply(j.entries(c.e), 1); fault.CodeOf(err) != c.code {
				t.Fatalf("%v, code %s", err, fault.CodeOf(err))
			}
			j.now.check(t, r)
			mustApply(t, r, j.batch(events.Written{Image: 1, Data: []byte("d")})) // nothing was changed
			// Behind an entry that was applied it is final.
			good := events.Entry{Before: []events.Position{0}, Event: events.Written{Image: 2, Offset: 30 << 10, Data: []byte{1}}}
			if err := r.Apply(j.entries(good, c.e), 1); fault.CodeOf(err) != c.code {
				t.Fatalf("as second entry: %v, code %s", err, fault.CodeOf(err))
			}
			if err := r.Apply(j.batch(events.Written{Image: 1, Data: []byte("e")}), 1); fault.CodeOf(err) != c.code {
				t.Fatalf("after it: %v", err)
			}
			if _, err := r.Checkpoint(t.Context()); fault.CodeOf(err) != c.code {
				t.Fatalf("checkpoint in the middle of a message: %v", err)
			}
		})
	}
}

func TestEntryReplayedByRecovery(t *testing.T) {
	j := twoImages()
	r := create1(t, vfs.OS(), memDir(t))
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	old := events.At(1, 77)
	write := func(image events.ImageID, b byte, before ...events.Position) events.Entry {
		return events.Entry{Version: old, Before: before, Event: events.Written{Image: image, Offset: 8<<10 - 1, Data: []byte{b, b}}}
	}
	j2 := *j
	m := j.entries(write(1, 5, 0, 0))
	mustApply(t, r, m)
	img, _ := r.Image(1)
	if a, b := img.ObjectVersion(0), img.ObjectVersion(1); a != old || b != old {
		t.Fatalf("versions %v and %v, not %v", a, b, old)
	}
	// The same entry again, in another position: it is there already.
	j2.mark = m.End
	m = j2.entries(write(1, 6, 0, 0))
	mustApply(t, r, m)
	p := make([]byte, 1)
	if _, err := img.ReadAt(p, 8<<10); err != nil || p[0] != 5 {
		t.Fatalf("byte %d, %v", p[0], err)
	}
}

func TestReadRange(t *testing.T) {
	j := twoImages()
	r := create1(t, vfs.OS(), memDir(t))
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	img, _ := r.Image(1)
	for _, c := range []struct {
		off int64
		n   int
		err error
	}{
		{0, 32 << 10, nil},
		{32 << 10, 0, nil},
		{32<<10 - 1, 1, nil},
		{-1, 1, ErrRange},
		{32 << 10, 1, ErrRange},
		{32<<10 - 1, 2, ErrRange},
		{1 << 62, 1, ErrRange},
	} {
		if _, err := img.ReadAt(make([]byte, c.n), c.off); !errors.Is(err, c.err) {
			t.Errorf("read of %d at %d: %v", c.n, c.off, err)
		}
	}
	if _, err := img.Extents(0, 32<<10+1); !errors.Is(err, ErrRange) {
		t.Errorf("extents beyond the end: %v", err)
	}
	mustApply(t, r, j.batch(events.ImageRemoved{Image: 1}))
	if _, err := img.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("read of a removed image: %v", err)
	}
	if _, err := r.CopyObject(1, 0, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("copy of a removed image: %v", err)
	}
	mustCheckpoint(t, r)
	if names, err := vfs.OS().ReadDir(r.dir + "/layers"); err != nil || len(names) != 1 {
		t.Errorf("layers %v, %v", names, err)
	}
}

// TestUnallocatedBlocks leaves in the file what a crash can leave there: blocks that are
// not allocated read as zeroes, also around what is written into them.
func TestUnallocatedBlocks(t *testing.T) {
	j := twoImages()
	r := create1(t, vfs.OS(), memDir(t))
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	img, _ := r.Image(1)
	if _, err := img.active.file.WriteAt(bytes.Repeat([]byte{0xee}, 32<<10), 0); err != nil {
		t.Fatal(err)
	}
	j.now.check(t, r)
	for _, e := range []events.Event{
		events.Written{Image: 1, Offset: 100, Data: []byte("abc")},
		events.Written{Image: 1, Offset: 7 << 10, Data: bytes.Repeat([]byte{1}, 3<<10)},
		events.Zeroed{Image: 1, Offset: 17 << 10, Length: 4 << 10},
		events.Discarded{Image: 1, Offset: 25 << 10, Length: 1 << 10},
		events.ImageResized{Image: 1, Size: 30<<10 + 1},
		events.ImageResized{Image: 1, Size: 32 << 10},
	} {
		mustApply(t, r, j.batch(e))
		j.now.check(t, r)
	}
}

// TestConcurrentReads lets readers watch a counter that is written block by block: once
// staged a value is never seen to go back, nor a block to be torn.
func TestConcurrentReads(t *testing.T) {
	const blocks, rounds = 8, 300
	j := newJournal(rand.New(rand.NewPCG(1, 8)).IntN)
	j.claim(1)
	j.batch(events.ImageCreated{Image: 1, Name: "a", Size: blocks * BlockSize, ObjectSize: 2 * BlockSize})
	r := create1(t, vfs.OS(), memDir(t))
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	img, _ := r.Image(1)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for i := range uint64(3) {
		readers.Go(func() { watch(t, r, img, rand.New(rand.NewPCG(i, 9)), done) })
	}
	var checkpoints sync.WaitGroup
	data := make([]byte, 0, blocks*BlockSize)
	var pending []*events.Batch
	for n := range uint64(rounds) {
		data = data[:0]
		from, count := n%blocks, 1+n%3
		for range min(count, blocks-from) * BlockSize / 8 {
			data = binary.BigEndian.AppendUint64(data, n+1)
		}
		b := j.batch(events.Written{Image: 1, Offset: from * BlockSize, Data: data})
		r.Stage(b)
		pending = append(pending, b)
		for len(pending) > int(n%7) {
			mustApply(t, r, pending[0])
			// The memory is ours again.
			clear(pending[0].Entries[0].Event.(events.Written).Data)
			pending = pending[1:]
		}
		if n%50 == 0 {
			checkpoints.Go(func() { mustCheckpoint(t, r) })
		}
	}
	close(done)
	readers.Wait()
	checkpoints.Wait()
}

// watch reads the image until done.
func watch(t *testing.T, r *Replica, img *Image, rng *rand.Rand, done <-chan struct{}) {
	last := make([]uint64, img.Size()/BlockSize)
	p := make([]byte, img.Size())
	for {
		select {
		case <-done:
			return
		default:
		}
		if rng.IntN(8) == 0 {
			if _, err := img.Extents(0, img.Size()); err != nil {
				t.Error(err)
			}
			if _, err := r.CopyObject(img.Info().Layer, rng.Uint64N(uint64(len(last)/2)), nil); err != nil && !errors.Is(err, ErrNotFound) { // closed and merged
				t.Error(err)
			}
		}
		if _, err := img.ReadAt(p, 0); err != nil {
			t.Error(err)
			return
		}
		for b := range last {
			v := blockValue(t, p[b*BlockSize:][:BlockSize])
			if v < last[b] {
				t.Errorf("block %d went back from %d to %d", b, last[b], v)
				return
			}
			last[b] = v
		}
	}
}

func blockValue(t *testing.T, p []byte) uint64 {
	v := binary.BigEndian.Uint64(p)
	for i := 8; i < len(p); i += 8 {
		if w := binary.BigEndian.Uint64(p[i:]); w != v {
			t.Errorf("a block is torn: %d and %d", v, w)
			return v
		}
	}
	return v
}
