package events

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func drawEvent(t *rapid.T) Event {
	image := ImageID(rapid.Uint32().Draw(t, "image"))
	offset, length := rapid.Uint64().Draw(t, "offset"), rapid.Uint64().Draw(t, "length")
	switch rapid.IntRange(0, 11).Draw(t, "kind") {
	case 0:
		return Written{image, offset, rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "data")}
	case 1:
		return Discarded{image, offset, length}
	case 2:
		return Zeroed{image, offset, length}
	case 3:
		return ImageCreated{image, rapid.StringN(1, 100, 255).Draw(t, "name"), offset, length}
	case 4:
		return ImageResized{image, length}
	case 5:
		return ImageRemoved{image}
	default:
		sample := sampleEvents()
		return sample[rapid.SampledFrom(slices.Sorted(maps.Keys(sample))).Draw(t, "sample")]
	}
}

func drawPart(t *rapid.T) Part {
	if rapid.Bool().Draw(t, "whole") {
		return Part{}
	}
	count := rapid.Uint32Range(2, PartsMax).Draw(t, "parts")
	return Part{rapid.Uint32Range(0, count-1).Draw(t, "part"), count}
}

func drawEntry(t *rapid.T) Entry {
	before := rapid.SliceOfN(rapid.Map(rapid.Uint64(), func(v uint64) Position { return Position(v) }), 0, 20)
	return Entry{Version: Position(rapid.Uint64().Draw(t, "version")), Before: before.Draw(t, "before"), Part: drawPart(t), Event: drawEvent(t)}
}

// history draws the messages of a history and the marks before each and at the end.
func history(t *rapid.T) (messages [][]byte, marks []Mark) {
	mark := Mark{}
	tag := Tag(0)
	for i := range rapid.IntRange(1, 8).Draw(t, "messages") {
		marks = append(marks, mark)
		var msg []byte
		if i == 0 || rapid.IntRange(0, 3).Draw(t, "claim") == 0 {
			tag, _ = tag.Next(uint16(rapid.IntRange(1, MaxSiteNumber).Draw(t, "site")))
			msg, mark = TagClaimed{Tag: tag, Reason: TagOpened, Site: "s", Predecessor: mark}.Encode(Instant(i))
		} else {
			b := NewBatchBuilder(nil)
			for range rapid.IntRange(1, 5).Draw(t, "entries") {
				b.Append(drawEntry(t))
			}
			size := b.Size()
			msg, mark = b.Seal(tag, mark, 0, Instant(i))
			if len(msg) != size {
				t.Fatalf("size %d announced, %d sealed", size, len(msg))
			}
		}
		messages = append(messages, bytes.Clone(msg))
	}
	return messages, append(marks, mark)
}

// TestHistory proves that what is sealed decodes to the same, that positions are
// consecutive, and that a message follows its own place in the history and no other.
func TestHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		messages, marks := history(t)
		for i, msg := range messages {
			m, err := DecodeJournal(msg)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(marks[i+1], m.Ends()); diff != "" {
				t.Fatalf("end of message %d (-sealed +decoded):\n%s", i, diff)
			}
			for j, mark := range marks {
				if m.Follows(mark) != (i == j) {
					t.Fatalf("message %d follows mark %d: %v", i, j, i != j)
				}
			}
			if p, c := m.Continues(); p != marks[i].Position && c != marks[i].Chain {
				t.Fatalf("message %d continues %v %v, not %v", i, p, c, marks[i])
			}
			if b, ok := m.(*Batch); ok {
				checkPositions(t, b, marks[i], marks[i+1])
			}
		}
	})
}

func checkPositions(t *rapid.T, b *Batch, before, end Mark) {
	for i := range b.Entries {
		if want := At(before.Position.Tag(), before.Position.Entry()+1+uint32(i)); b.Position(i) != want {
			t.Fatalf("entry %d stands at %v, want %v", i, b.Position(i), want)
		}
	}
	if last := b.Position(len(b.Entries) - 1); last != end.Position {
		t.Fatalf("the last entry stands at %v, the end is %v", last, end.Position)
	}
	if end.Entries != before.Entries+uint64(len(b.Entries)) || end.Bytes <= before.Bytes {
		t.Fatalf("totals %d entries %d bytes follow %d and %d", end.Entries, end.Bytes, before.Entries, before.Bytes)
	}
}

// TestParts proves which entries make one change together.
func TestParts(t *testing.T) {
	whole, first, second, last := Part{}, Part{0, 3}, Part{1, 3}, Part{2, 3}
	for _, c := range []struct {
		before, next Part
		continues    bool
	}{
		{whole, whole, false},
		{whole, first, false},
		{first, second, true},
		{second, last, true},
		{first, last, false},
		{second, second, false},
		{last, first, false},
		{last, whole, false},
		{first, Part{1, 4}, false},
		{first, first, false},
	} {
		if got := c.next.Continues(c.before); got != c.continues {
			t.Errorf("%v behind %v: %v", c.next, c.before, got)
		}
	}
	for part, open := range map[Part]bool{whole: false, first: true, second: true, last: false} {
		b := Batch{Entries: []Entry{{Part: first}, {Part: part}}}
		if b.Open() != open {
			t.Errorf("a batch that ends with %v is open: %v", part, !open)
		}
	}
}

// TestEntryByItself is how an export holds an entry.
func TestEntryByItself(t *testing.T) {
	for name, e := range sampleEvents() {
		want := sampleEntry(e)
		encoded := EncodeEntry(want)
		got, err := DecodeEntry(encoded)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		for n := range encoded {
			if _, err := DecodeEntry(encoded[:n]); err == nil {
				t.Fatalf("%s: %d of %d bytes are accepted", name, n, len(encoded))
			}
		}
		if _, err := DecodeEntry(append(encoded, 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s with a byte more: %v", name, err)
		}
	}
}

// TestEntriesRoundTrip draws entries of every kind (journal 36, 146).
func TestEntriesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(drawEntry), 1, 20).Draw(t, "entries")
		b := NewBatchBuilder(nil)
		for _, e := range want {
			b.Append(e)
		}
		if b.Count() != len(want) {
			t.Fatalf("count %d of %d", b.Count(), len(want))
		}
		msg, _ := b.Seal(1, Mark{}, 0, 0)
		got, err := DecodeBatch(msg)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.Entries, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestEveryByteCounts proves that no byte of a journal message can change unnoticed
// (journal 38, journal 39).
func TestEveryByteCounts(t *testing.T) {
	claim, _ := sampleClaim().Encode(sampleTime)
	for name, msg := range map[string][]byte{
		"batch": sampleBatch(sampleEntry(ImageRemoved{1}), sampleEntry(Written{1, 2, []byte("abc")})),
		"tag":   claim,
	} {
		for i := range msg {
			for _, flip := range []byte{0x01, 0x80, 0xff} {
				broken := bytes.Clone(msg)
				broken[i] ^= flip
				if m, err := DecodeJournal(broken); err == nil {
					t.Fatalf("%s: byte %d changed by %02x: accepted as %+v", name, i, flip, m)
				}
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		messages, _ := history(t)
		msg := rapid.SampledFrom(messages).Draw(t, "message")
		msg[rapid.IntRange(0, len(msg)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		if _, err := DecodeJournal(msg); err == nil {
			t.Fatal("accepted")
		}
	})
}

func TestFollows(t *testing.T) {
	before := sampleMark()
	b := NewBatchBuilder(nil)
	b.Append(sampleEntry(ImageRemoved{1}))
	msg, _ := b.Seal(before.Position.Tag(), before, 0, 0)
	batch, err := DecodeBatch(msg)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := TagClaimed{Tag: 0x3007, Predecessor: before}.Encode(0)
	claim, err := DecodeTagClaimed(text)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name         string
		edit         func(*Mark)
		batch, claim bool
	}{
		{"its own", func(*Mark) {}, true, true},
		{"another time", func(m *Mark) { m.Time++ }, true, true},
		{"another chain", func(m *Mark) { m.Chain++ }, false, false},
		{"an entry before", func(m *Mark) { m.Position-- }, false, false},
		{"an entry behind", func(m *Mark) { m.Position++ }, false, false},
		{"another tag", func(m *Mark) { m.Position += 1 << 32 }, false, false},
		{"the same tag", func(m *Mark) { m.Position = At(0x3007, m.Position.Entry()) }, false, false},
		{"other totals of entries", func(m *Mark) { m.Entries++ }, false, false},
		{"other totals of bytes", func(m *Mark) { m.Bytes++ }, true, false},
		{"nothing", func(m *Mark) { *m = Mark{} }, false, false},
	}
	for _, c := range cases {
		m := before
		c.edit(&m)
		if got := batch.Follows(m); got != c.batch {
			t.Errorf("%s: the batch follows: %v", c.name, got)
		}
		if got := claim.Follows(m); got != c.claim {
			t.Errorf("%s: the claim follows: %v", c.name, got)
		}
	}
}

// TestClaimNeedsALaterTag: a claim that names its predecessor exactly but does not rise.
func TestClaimNeedsALaterTag(t *testing.T) {
	before := sampleMark()
	for _, tag := range []Tag{0, 0x1fff, before.Position.Tag()} {
		_, mark := TagClaimed{Tag: tag, Predecessor: before}.Encode(0)
		claim := &TagClaimed{Tag: tag, Predecessor: before, Mark: mark}
		if claim.Follows(before) {
			t.Errorf("tag %x follows %x", tag, before.Position.Tag())
		}
	}
}

// TestBuilderUsesItsRoomAgain: the storage of an old batch is as good as new.
func TestBuilderUsesItsRoomAgain(t *testing.T) {
	entry := sampleEntry(Written{1, 0, bytes.Repeat([]byte{1}, 1000)})
	seal := func(buf []byte) []byte {
		b := NewBatchBuilder(buf)
		b.Append(entry)
		msg, _ := b.Seal(1, Mark{}, 0, 0)
		return msg
	}
	first := seal(nil)
	want := bytes.Clone(first)
	for i := range first {
		first[i] = 0xee
	}
	if got := seal(first[:0]); !bytes.Equal(got, want) {
		t.Error("a batch in used storage differs")
	}
}

func TestRange(t *testing.T) {
	for name, e := range sampleEvents() {
		image, offset, length, ok := Range(e)
		switch e := e.(type) {
		case Written:
			ok = ok && image == e.Image && offset == e.Offset && length == uint64(len(e.Data))
		case Discarded:
			ok = ok && image == e.Image && offset == e.Offset && length == e.Length
		case Zeroed:
			ok = ok && image == e.Image && offset == e.Offset && length == e.Length
		case PatternWritten:
			ok = ok && image == e.Image && offset == e.Offset && length == e.Length
		case CompareWritten:
			ok = ok && image == e.Image && offset == e.Offset && length == uint64(len(e.Data))
		default:
			ok = !ok
		}
		if !ok {
			t.Errorf("%s: image %d, offset %d, length %d", name, image, offset, length)
		}
	}
}

const (
	benchWrites = 128
	benchBytes  = 4 << 10
)

func BenchmarkBatch(b *testing.B) {
	data := bytes.Repeat([]byte{0x5a}, benchBytes)
	before := []Position{At(1, 1)}
	var buf []byte
	b.SetBytes(benchWrites * benchBytes)
	b.ReportAllocs()
	for b.Loop() {
		builder := NewBatchBuilder(buf[:0])
		for i := range benchWrites {
			builder.Append(Entry{Before: before, Event: Written{1, uint64(i) * benchBytes, data}})
		}
		buf, _ = builder.Seal(1, Mark{}, 0, 0)
		if _, err := DecodeBatch(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// A sealed message decodes to the same with and without its checksum being looked at.
func TestDecodeSealed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		messages, _ := history(t)
		for _, msg := range messages {
			want, err := DecodeBatch(msg)
			got, sealedErr := DecodeSealed(msg)
			if (err == nil) != (sealedErr == nil) || !cmp.Equal(want, got, cmpopts.EquateEmpty()) {
				t.Fatalf("checked: %v, %v; sealed: %v, %v", want, err, got, sealedErr)
			}
		}
	})
}
