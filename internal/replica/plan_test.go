package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"tidemark/events"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// stepEnd returns where the step ends that begins with a message and has a number of them,
// or more where it would cut a run.
func stepEnd(messages []events.JournalMessage, from, n int) int {
	end := min(from+n, len(messages))
	for end < len(messages) {
		last, lastIsBatch := messages[end-1].(*events.Batch)
		next, nextIsBatch := messages[end].(*events.Batch)
		if !lastIsBatch || !nextIsBatch || !last.Open() || !next.Entries[0].Part.Continues(last.Entries[len(last.Entries)-1].Part) {
			return end
		}
		end++
	}
	return end
}

// across appends a change whose parts span messages; one in three breaks off.
func (j *journal) across() {
	if len(j.now.images) == 0 {
		return
	}
	id := j.image()
	offset, length := j.span(j.now.images[id].size)
	if length = min(length, 12<<10); length < 3 {
		return
	}
	void, third := j.intN(3) == 0, length/3
	for i := range uint32(3) {
		at, n := uint64(i)*third, third
		if i == 2 {
			n = length - 2*third
			if void {
				return
			}
		}
		data := slices.Repeat([]byte{byte(1 + j.intN(255))}, int(n))
		part := events.Entry{
			Event: events.Written{Image: id, Offset: offset + at, Data: data}, Part: events.Part{Index: i, Count: 3},
		}
		j.parted(void, part)
	}
}

// history returns a random journal.
func history(rng *rand.Rand, messages int) *journal {
	j := newJournal(rng.IntN)
	for range messages {
		j.random(8)
		if rng.IntN(6) == 0 {
			j.across()
		}
	}
	return j
}

// TestStepsAreSerial applies random histories (overlapping writes, discards, zeroes,
// patterns, compared writes, resizes, snapshots, rollbacks, clones, runs that are void) one
// step after the other, as several steps at once, and those once more with everything
// staged before: memory, metadata and content are the same in all, and the model's.
func TestStepsAreSerial(t *testing.T) {
	for seed := range sitetest.Rounds(uint64(200)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			j := history(rand.New(rand.NewPCG(seed, 11)), 60)
			var want string
			for _, staged := range []bool{false, true} {
				for _, most := range []int{1, 3, 40} {
					rng := rand.New(rand.NewPCG(seed, 12))
					got := j.applyInSteps(t, rng, most, staged)
					if want == "" {
						want = got
					}
					if got != want {
						t.Fatalf("steps of up to %d messages (staged: %v) left\n%s\none by one\n%s", most, staged, got, want)
					}
				}
			}
		})
	}
}

// applyInSteps applies the journal to a new replica, compares it with the model, and
// returns what it and its metadata say of the layers.
func (j *journal) applyInSteps(t *testing.T, rng *rand.Rand, most int, staged bool) string {
	dir := filepath.Join(memDir(t), "r")
	r := create1(t, vfs.OS(), dir)
	for next := 0; next < len(j.messages); {
		end := stepEnd(j.messages, next, 1+rng.IntN(most))
		for _, m := range j.messages[next:end] {
			if b, ok := m.(*events.Batch); ok && staged {
				r.Stage(b)
			}
		}
		if err := r.ApplyRun(j.messages[next:end], uint64(end)); err != nil {
			t.Fatal(err)
		}
		if rng.IntN(10) == 0 {
			mustCheckpoint(t, r)
		}
		if r.lost != 0 || len(r.plan.spans) != 0 {
			t.Fatalf("%d objects are missing, %d changes were left out", r.lost, len(r.plan.spans))
		}
		next = end
	}
	j.now.check(t, r)
	for _, img := range r.images {
		for i := range img.stripes {
			if n := len(img.stripes[i].staged); n != 0 {
				t.Fatalf("%d objects of image %d have something staged", n, img.id)
			}
		}
	}
	mustCheckpoint(t, r)
	before := describeLayers(r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = reopen(t, vfs.OS(), dir)
	j.now.check(t, r)
	if after := describeLayers(r); after != before {
		t.Fatalf("reopened:\n%s\nbefore\n%s", after, before)
	}
	return before
}

// describeLayers says what a replica knows of its layers' objects.
func describeLayers(r *Replica) string {
	var out strings.Builder
	ids := make([]LayerID, 0, len(r.layers))
	for id := range r.layers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		l := r.layers[id]
		fmt.Fprintf(&out, "layer %d: %+v, %d blocks, %d objects filled, %d recorded\n", id, l.record(), l.used, l.filled, l.records)
		l.objects.touched(0, func(index uint64, o *object) bool {
			if o.version != 0 || o.blocks != nil || o.hidden != nil {
				fmt.Fprintf(&out, "  %d: %v %v %v\n", index, o.version, wordsOf(o.blocks), wordsOf(o.hidden))
			}
			return true
		})
	}
	return out.String()
}

func wordsOf(b *bitmap) []uint64 {
	if b == nil {
		return nil
	}
	return b.words
}

// TestReadersSeeOrder writes a count first to the last object, then to each one before it,
// several times in each step. A reader of the first and then the last one never sees a
// smaller count there, whether the writes were staged before (the owner) or not (a
// follower): what is carried out in the order of the file shows in the order of the log.
func TestReadersSeeOrder(t *testing.T) {
	for _, staged := range []bool{false, true} {
		t.Run(fmt.Sprintf("staged=%v", staged), func(t *testing.T) {
			const objects = 50
			j := newJournal(rand.New(rand.NewPCG(5, 5)).IntN)
			j.claim(1)
			j.batch(events.ImageCreated{Image: 1, Name: "a", Size: objects * BlockSize, ObjectSize: BlockSize})
			r := create1(t, vfs.OS(), filepath.Join(memDir(t), "r"))
			if err := replay(r, j.messages); err != nil {
				t.Fatal(err)
			}
			var done atomic.Bool
			var reader sync.WaitGroup
			reader.Go(func() {
				img, _ := r.Image(1)
				for !done.Load() {
					first, last := count(t, img, 0), count(t, img, (objects-1)*BlockSize)
					if last < first {
						t.Errorf("the last object shows %d when the first one showed %d before", last, first)
						return
					}
				}
			})
			for step := range uint64(100) {
				var ms []events.JournalMessage
				for i := range uint64(4) {
					n := binary.LittleEndian.AppendUint64(nil, step*4+i+1)
					var writes []events.Event
					for index := range uint64(objects) {
						writes = append(writes, events.Written{Image: 1, Offset: (objects - 1 - index) * BlockSize, Data: n})
					}
					m := j.batch(writes...)
					if staged {
						r.Stage(m)
					}
					ms = append(ms, m)
				}
				if err := r.ApplyRun(ms, 1); err != nil {
					t.Fatal(err)
				}
			}
			done.Store(true)
			reader.Wait()
		})
	}
}

func count(t *testing.T, img *Image, offset int64) uint64 {
	var p [8]byte
	if _, err := img.ReadAt(p[:], offset); err != nil {
		t.Error(err)
	}
	return binary.LittleEndian.Uint64(p[:])
}

// TestStepRefused: a step of which a later message is wrong fails the replica, and leaves
// nothing of itself that a reopened one would miss.
func TestStepRefused(t *testing.T) {
	j := twoImages()
	dir := filepath.Join(memDir(t), "r")
	r := create1(t, vfs.OS(), dir)
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	mark := mustCheckpoint(t, r)
	good := j.batch(events.Written{Image: 1, Data: []byte("good")})
	b := events.NewBatchBuilder(nil)
	b.Append(events.Entry{Before: []events.Position{1}, Event: events.Written{Image: 1, Data: []byte("bad")}})
	bad := j.seal(b)
	err := r.ApplyRun([]events.JournalMessage{good, bad}, 1)
	var mismatch *MismatchError
	if !errors.As(err, &mismatch) {
		t.Fatalf("applied: %v", err)
	}
	if _, err := r.Checkpoint(t.Context()); !errors.As(err, &mismatch) {
		t.Fatalf("checkpoint of a failed replica: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = reopen(t, vfs.OS(), dir)
	if got := r.Applied(); !got.Same(mark) {
		t.Fatalf("reopened at %v, not %v", got.Position, mark.Position)
	}
	mustApply(t, r, good)
	if err := r.Apply(bad, 1); !errors.As(err, &mismatch) {
		t.Fatalf("applied: %v", err)
	}
	if _, err := r.Checkpoint(t.Context()); err != nil {
		t.Fatalf("a message that is refused as a whole fails the replica: %v", err)
	}
}
