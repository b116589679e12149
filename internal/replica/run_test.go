package replica

import (
	"bytes"
	"runtime"
	"testing"

	"tidemark/events"
	"tidemark/internal/vfs"
)

// parts returns the entries that write one byte after the other of data, from 0 on.
func parts(data string, count uint32) []events.Entry {
	var out []events.Entry
	for i := range data {
		out = append(out, events.Entry{
			Event: events.Written{Image: 1, Offset: uint64(i), Data: []byte{data[i]}},
			Part:  events.Part{Index: uint32(i), Count: count},
		})
	}
	return out
}

// runs makes messages of entries; those of whole runs change the model.
func (j *journal) parted(void bool, es ...events.Entry) *events.Batch {
	b := events.NewBatchBuilder(nil)
	position := j.mark.Position
	for _, e := range es {
		position++
		e.Before = j.now.before(e.Event)
		b.Append(e)
		if !void {
			j.now.do(e.Event, position)
		}
	}
	return j.seal(b)
}

// TestRuns applies changes of several entries: whole ones, also across messages, and such
// that break off, of which nothing may be seen (journal 2.5: split events, all together).
func TestRuns(t *testing.T) {
	whole := parts("abcd", 4)
	other := events.Entry{Event: events.Written{Image: 1, Offset: 20 << 10, Data: []byte("x")}}
	cases := []struct {
		name string
		make func(j *journal) []events.JournalMessage
	}{
		{"in one message", func(j *journal) []events.JournalMessage {
			return []events.JournalMessage{j.parted(false, append(whole, other)...)}
		}},
		{"across three messages", func(j *journal) []events.JournalMessage {
			return []events.JournalMessage{
				j.parted(false, other, whole[0]), j.parted(false, whole[1], whole[2]), j.parted(false, whole[3], other),
			}
		}},
		{"broken off by another entry", func(j *journal) []events.JournalMessage {
			return []events.JournalMessage{j.parted(true, whole[0], whole[1]), j.parted(false, other)}
		}},
		{"broken off by a tag", func(j *journal) []events.JournalMessage {
			first := j.parted(true, whole[:3]...)
			j.claim(1)
			return []events.JournalMessage{first, j.messages[len(j.messages)-1], j.parted(true, whole[3])}
		}},
		{"broken off by its own beginning", func(j *journal) []events.JournalMessage {
			return []events.JournalMessage{j.parted(true, whole[0], whole[1]), j.parted(false, whole...)}
		}},
		{"a part left out", func(j *journal) []events.JournalMessage {
			return []events.JournalMessage{j.parted(true, whole[0], whole[2], whole[3])}
		}},
		{"parts without a beginning", func(j *journal) []events.JournalMessage {
			return []events.JournalMessage{j.parted(true, whole[2], whole[3]), j.parted(false, other)}
		}},
		{"at the end of what is applied", func(j *journal) []events.JournalMessage {
			return []events.JournalMessage{j.parted(false, other), j.parted(true, whole[:3]...)}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			j := twoImages()
			r := create1(t, vfs.OS(), memDir(t))
			if err := replay(r, j.messages); err != nil {
				t.Fatal(err)
			}
			ms := c.make(j)
			for _, m := range ms {
				if b, ok := m.(*events.Batch); ok {
					r.Stage(b)
				}
			}
			if err := r.ApplyRun(ms, 7); err != nil {
				t.Fatal(err)
			}
			j.now.check(t, r) // what was staged of void parts is gone too
			if mark := mustCheckpoint(t, r); !mark.Same(j.mark) {
				t.Errorf("applied up to %v, not %v", mark.Position, j.mark.Position)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			j.now.check(t, reopen(t, vfs.OS(), r.dir))
		})
	}
}

// TestPattern writes patterns of lengths that divide nothing, staged and applied: memory
// does not grow with the range (journal 118: write-same).
func TestPattern(t *testing.T) {
	j := newJournal(nil)
	j.claim(1)
	const size = 1 << 30
	j.batch(events.ImageCreated{Image: 1, Name: "a", Size: 4 << 20, ObjectSize: 1 << 20})
	r := create1(t, vfs.OS(), memDir(t))
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	img, _ := r.Image(1)
	b := j.batch(events.PatternWritten{Image: 1, Offset: 12345, Length: 700 * 4097, Pattern: bytes.Repeat([]byte("0123456"), 100)[:700]})
	r.Stage(b)
	if err := j.now.images[1].contentDiffers(img); err != nil {
		t.Fatal(err)
	}
	c := j.batch(events.Discarded{Image: 1, Offset: 1 << 20, Length: 1<<20 + 77})
	r.Stage(c) // cuts the staged pattern
	if err := j.now.images[1].contentDiffers(img); err != nil {
		t.Fatal(err)
	}
	mustApply(t, r, b)
	if err := j.now.images[1].contentDiffers(img); err != nil {
		t.Fatal(err)
	}
	mustApply(t, r, c)
	j.now.check(t, r)

	mustApply(t, r, j.entries(events.Entry{Before: []events.Position{0}, Event: events.ImageCreated{
		Image: 2, Name: "large", Size: size, ObjectSize: ObjectSizeMax,
	}}))
	large := events.NewBatchBuilder(nil)
	large.Append(events.Entry{Before: make([]events.Position, 32), Event: events.PatternWritten{Image: 2, Length: size, Pattern: make([]byte, 512)}})
	fork := *j
	fork.mark = r.Applied()
	m := fork.seal(large)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r.Stage(m)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("staging a pattern over 1 GiB takes %d bytes", got)
	}
}
