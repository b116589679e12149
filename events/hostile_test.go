package events

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"github.com/cespare/xxhash/v2"
	"pgregory.net/rapid"
)

// sealed ends a journal message with a checksum that is right.
func sealed(body []byte) []byte {
	return appendUint64(bytes.Clone(body), xxhash.Sum64(body))
}

// unsealed is a journal message without its checksum.
func unsealed(msg []byte) []byte { return bytes.Clone(msg[:len(msg)-chainSize]) }

// factOf builds a fact of one's own making.
func factOf(version byte, kind string, fields []byte) []byte {
	b := appendString(append(appendArray(nil, factFields), version), kind)
	return append(b, fields...)
}

func TestUnknownFieldsOfFactsAreSkipped(t *testing.T) {
	// {"pool": "vms", "later": {"a": [1, nil, true, -1, 1.5]}, "at": 7}
	fields := []byte{0x83, 0xa4, 'p', 'o', 'o', 'l', 0xa3, 'v', 'm', 's', 0xa5, 'l', 'a', 't', 'e', 'r'}
	fields = append(fields, 0x81, 0xa1, 'a', 0x95, 1, 0xc0, 0xc3, 0xff, 0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0)
	fields = append(fields, 0xa2, 'a', 't', 7)
	f, err := Unmarshal(factOf(FormatVersion, "pool_created", fields))
	if err != nil {
		t.Fatal(err)
	}
	if got := *f.(*PoolCreated); got != (PoolCreated{Pool: "vms", At: 7}) {
		t.Errorf("got %+v", got)
	}
}

func TestMissingFieldsOfFactsAreZero(t *testing.T) {
	f, err := Unmarshal(factOf(FormatVersion, "pool_created", []byte{0x80}))
	if err != nil {
		t.Fatal(err)
	}
	if got := *f.(*PoolCreated); got != (PoolCreated{}) {
		t.Errorf("got %+v", got)
	}
}

func TestRefusedFacts(t *testing.T) {
	empty := []byte{0x80}
	deep := append(bytes.Repeat([]byte{0x91}, 20), 0)
	nested := append([]byte{0x81, 0xa1, 'x'}, deep...)
	cases := []struct {
		name string
		msg  []byte
		want error
	}{
		{"nothing", nil, ErrCorrupt},
		{"newer format", factOf(2, "pool_created", empty), ErrFormat},
		{"format zero", factOf(0, "pool_created", empty), ErrFormat},
		{"unknown kind", factOf(1, "pool_painted", empty), ErrFormat},
		{"too few elements", []byte{0x92, 1, 0xa1, 'x'}, ErrCorrupt},
		{"too many elements", []byte{0x94, 1, 0xa1, 'x', 0x80, 0x80}, ErrCorrupt},
		{"fields are an array", factOf(1, "pool_created", []byte{0x92, 0xa1, 'x', 1}), ErrCorrupt},
		{"fields are nil", factOf(1, "pool_created", []byte{0xc0}), ErrCorrupt},
		{"bytes follow", append(factOf(1, "pool_created", empty), 0), ErrCorrupt},
		{"deep nesting", factOf(1, "pool_created", nested), ErrCorrupt},
		{"deep nesting alone", bytes.Repeat([]byte{0x91}, 1<<20), ErrCorrupt},
		{"extension type", factOf(1, "pool_created", []byte{0x81, 0xa1, 'x', 0xd4, 1, 2}), ErrCorrupt},
		{"large extension type", factOf(1, "pool_created", []byte{0x81, 0xa1, 'x', 0xc9, 0xff, 0xff, 0xff, 0xff, 1}), ErrCorrupt},
		{"never used type", factOf(1, "pool_created", []byte{0xc1}), ErrCorrupt},
		{"wrong type of a field", factOf(1, "pool_created", []byte{0x81, 0xa4, 'p', 'o', 'o', 'l', 0x92, 1, 2}), ErrCorrupt},
		{"map claims 4 billion", factOf(1, "pool_created", []byte{0xdf, 0xff, 0xff, 0xff, 0xff}), ErrCorrupt},
		{"array claims 4 billion", []byte{0xdd, 0xff, 0xff, 0xff, 0xff}, ErrCorrupt},
		{"string claims 4 GiB", []byte{0x93, 1, 0xdb, 0xff, 0xff, 0xff, 0xff, 'x'}, ErrCorrupt},
		{"binary claims 4 GiB", factOf(1, "token_created", append([]byte{0x81, 0xab}, "secret_hash\xc6\xff\xff\xff\xff"...)), ErrCorrupt},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if f, err := Unmarshal(c.msg); !errors.Is(err, c.want) || f != nil {
				t.Errorf("got %v, %v; want %v", f, err, c.want)
			}
		})
	}
}

func TestTrailingFieldsOfEntriesAreSkipped(t *testing.T) {
	body := unsealed(sampleBatch())
	extra := appendArray(nil, entryFixedFields+1+partFields+2) // an image removed, no part, and two fields more
	extra = append(extra, byte(kindImageRemoved), 0, 0x91, 9, 77, 0, 0)
	extra = append(extra, 0x81, 0xa1, 'x', 0x92, 1, 2) // a map
	extra = appendBin(extra, make([]byte, 300))
	next := appendEntry(nil, Entry{Event: ImageRemoved{Image: 78}})
	binary.BigEndian.PutUint32(body[batchHeaderSize-4:], 2)
	m, err := DecodeJournal(sealed(append(append(body, extra...), next...)))
	if err != nil {
		t.Fatal(err)
	}
	entries := m.(*Batch).Entries
	if len(entries) != 2 || entries[0].Event != (ImageRemoved{77}) || entries[1].Event != (ImageRemoved{78}) {
		t.Errorf("got %+v", entries)
	}
}

// TestRefusedJournalMessages also covers what a newer program writes: it is refused, not
// passed over (journal 148, journal 149, journal 161).
func TestRefusedJournalMessages(t *testing.T) {
	batch := sampleBatch(sampleEntry(ImageRemoved{1}))
	edit := func(at int, with ...byte) []byte {
		body := unsealed(batch)
		copy(body[at:], with)
		return sealed(body)
	}
	claim, _ := sampleClaim().Encode(sampleTime)
	newer := unsealed(claim)
	newer[1] = 2
	unknown := sealed(append([]byte{0x93, FormatVersion, 0xa8}, "snapshot"...))
	rotten := bytes.Clone(unknown)
	rotten[len(rotten)-1] ^= 1
	kindAt := batchHeaderSize + 1 // of the first entry
	tooMany := append([]byte{batch[0]}, unsealed(batch)[1:]...)
	tooMany[0]++
	cases := []struct {
		name string
		msg  []byte
		want error
	}{
		{"nothing", nil, ErrCorrupt},
		{"short", []byte{0x91}, ErrCorrupt},
		{"newer batch", edit(1, 2), ErrFormat},
		{"newer tag", sealed(newer), ErrFormat},
		{"unknown kind of message", unknown, ErrFormat},
		{"unknown kind with a wrong checksum", rotten, ErrCorrupt},
		{"object part", samplePart().Encode(), ErrFormat},
		{"another number of fields", sealed(tooMany), ErrCorrupt},
		{"unknown kind of entry", edit(kindAt, 99), ErrFormat},
		{"kind of entry zero", edit(kindAt, 0), ErrFormat},
		{"entry 0", edit(13, mpUint32, 0, 0, 0, 0), ErrCorrupt},
		{"entries beyond the tag's end", sealed(twoEntriesAt(t, MaxEntry)), ErrCorrupt},
		{"no entries", sampleBatch(), ErrCorrupt},
		{"4 billion entries", edit(batchHeaderSize-4, 0xff, 0xff, 0xff, 0xff), ErrCorrupt},
		{"more entries than there are", edit(batchHeaderSize-4, 0, 0, 0, 2), ErrCorrupt},
		{"bytes behind the entries", sealed(append(unsealed(batch), 0)), ErrCorrupt},
		{"too few fields of an entry", edit(batchHeaderSize, 0x93), ErrCorrupt},
		{"cut", batch[:len(batch)-1], ErrCorrupt},
		{"part beyond the last", sampleBatch(Entry{Part: Part{3, 3}, Event: ImageRemoved{1}}), ErrCorrupt},
		{"one part alone", sampleBatch(Entry{Part: Part{0, 1}, Event: ImageRemoved{1}}), ErrCorrupt},
		{"too many parts", sampleBatch(Entry{Part: Part{0, PartsMax + 1}, Event: ImageRemoved{1}}), ErrCorrupt},
		{"no pattern", sampleBatch(sampleEntry(PatternWritten{Image: 1, Length: 4})), ErrCorrupt},
		{"half a pattern", sampleBatch(sampleEntry(PatternWritten{Image: 1, Length: 5, Pattern: []byte{1, 2}})), ErrCorrupt},
		{"compared with less", sampleBatch(sampleEntry(CompareWritten{Image: 1, Compare: []byte{1}, Data: []byte{1, 2}})), ErrCorrupt},
		{"an operation on data", sampleBatch(sampleEntry(OperationStarted{Intent: Flushed{}})), ErrCorrupt},
		{"an operation on an operation", sampleBatch(sampleEntry(OperationStarted{Intent: OperationFinished{}})), ErrCorrupt},
		{"snapshots of too many images", sampleBatch(sampleEntry(SnapshotsCreated{Name: "s", Images: make([]ImageID, ObjectsPerEntryMax+1)})), ErrCorrupt},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if m, err := DecodeJournal(c.msg); !errors.Is(err, c.want) || m != nil {
				t.Errorf("got %v, %v; want %v", m, err, c.want)
			}
		})
	}
}

// twoEntriesAt returns the body of a batch whose first entry has a number.
func twoEntriesAt(t *testing.T, first uint32) []byte {
	t.Helper()
	body := unsealed(sampleBatch(sampleEntry(ImageRemoved{1}), sampleEntry(ImageRemoved{2})))
	binary.BigEndian.PutUint32(body[14:], first)
	return body
}

func TestRefusedObjectParts(t *testing.T) {
	part := func(edit func(*ObjectPart)) []byte {
		p := samplePart()
		edit(&p)
		return p.Encode()
	}
	layered := sampleLayerPart()
	noLayer := bytes.Replace(unsealed(layered.Encode()), appendUint(nil, uint64(layered.Layer)), []byte{0}, 1)
	manyLayers := bytes.Replace(unsealed(layered.Encode()), appendUint(nil, uint64(layered.Layer)), appendUint(nil, 1<<32), 1)
	short := unsealed(layered.Encode())
	short[0]--
	cases := []struct {
		name string
		msg  []byte
		want error
	}{
		{"no layer", sealed(noLayer), ErrCorrupt},
		{"a layer's number beyond what there can be", sealed(manyLayers), ErrCorrupt},
		{"a layer without what it hides", sealed(short), ErrCorrupt},
		{"hidden blocks longer than the message", sealed(longBin(layered.Encode(), layered.Hidden)), ErrCorrupt},
		{"no parts", part(func(p *ObjectPart) { p.Part, p.Parts = 0, 0 }), ErrCorrupt},
		{"behind the last part", part(func(p *ObjectPart) { p.Part = 3 }), ErrCorrupt},
		{"too many parts", part(func(p *ObjectPart) { p.Parts = 1<<16 + 1 }), ErrCorrupt},
		{"batch", sampleBatch(sampleEntry(ImageRemoved{1})), ErrCorrupt},
		{"bytes behind", sealed(append(unsealed(samplePart().Encode()), 0)), ErrCorrupt},
	}
	for _, c := range cases {
		if p, err := DecodeObjectPart(c.msg); !errors.Is(err, c.want) || p != nil {
			t.Errorf("%s: got %v, %v; want %v", c.name, p, err, c.want)
		}
	}
}

// longBin returns the body of a message that ends with binary data, which claims four billion
// bytes.
func longBin(msg, last []byte) []byte {
	body := unsealed(msg)
	binary.BigEndian.PutUint32(body[len(body)-len(last)-4:], 1<<32-1)
	return body
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestClaimedLengthsAllocateNothing feeds messages that claim gigabytes.
func TestClaimedLengthsAllocateNothing(t *testing.T) {
	huge := []byte{0xff, 0xff, 0xff, 0xff}
	many := unsealed(sampleBatch(sampleEntry(ImageRemoved{1})))
	binary.BigEndian.PutUint32(many[batchHeaderSize-4:], 1<<32-1)
	before := append(unsealed(sampleBatch()), 0x94, 1, 0, mpArray32)
	binary.BigEndian.PutUint32(before[batchHeaderSize-4:], 1)
	data := append(unsealed(sampleBatch()), 0x96, byte(kindWritten), 0, 0x90, 1, 0, mpBin32)
	binary.BigEndian.PutUint32(data[batchHeaderSize-4:], 1)
	inputs := [][]byte{
		append([]byte{0xdd}, huge...),
		append([]byte{0xdf}, huge...),
		append([]byte{0xc6}, huge...),
		append([]byte{0xdb}, huge...),
		factOf(1, "token_created", append(append([]byte{0x81, 0xab}, "secret_hash\xc6"...), huge...)),
		factOf(1, "pool_created", append([]byte{0x81, 0xa4, 'p', 'o', 'o', 'l', 0xdb}, huge...)),
		sealed(many), sealed(append(before, huge...)), sealed(append(data, huge...)),
	}
	const limit = 64 << 10
	for i, msg := range inputs {
		got := allocated(func() {
			for _, decode := range []func([]byte) (any, error){decodeFact, decodeJournal, decodePart} {
				if _, err := decode(msg); err == nil {
					t.Errorf("input %d: accepted", i)
				}
			}
		})
		if got > limit {
			t.Errorf("input %d: %d bytes allocated for a message of %d", i, got, len(msg))
		}
	}
}

// TestAllocationsAreBounded gives messages of the greatest size whose every byte claims
// as much as it can: what they cost stays in proportion.
func TestAllocationsAreBounded(t *testing.T) {
	body := append(unsealed(sampleBatch()), bytes.Repeat([]byte{0x94, 18, 0, 0x90, 1}, MessageBytesMax/5)...)
	binary.BigEndian.PutUint32(body[batchHeaderSize-4:], MessageBytesMax/5)
	msg := sealed(body)
	var batch JournalMessage
	var err error
	got := allocated(func() { batch, err = DecodeJournal(msg) })
	if err != nil || len(batch.(*Batch).Entries) != MessageBytesMax/5 {
		t.Fatalf("got %v", err)
	}
	if limit := uint64(24 * len(msg)); got > limit {
		t.Errorf("%d bytes allocated for a message of %d", got, len(msg))
	}
}

// TestGarbageIsRefused proves that no decoder panics on, or accepts, what it did not write.
func TestGarbageIsRefused(t *testing.T) {
	var whole [][]byte
	for _, f := range fixtures() {
		whole = append(whole, readGolden(t, f.name))
	}
	rapid.Check(t, func(t *rapid.T) {
		msg := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "garbage")
		if rapid.Bool().Draw(t, "mutate") {
			msg = bytes.Clone(rapid.SampledFrom(whole).Draw(t, "message"))
			for range rapid.IntRange(1, 5).Draw(t, "flips") {
				msg[rapid.IntRange(0, len(msg)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
			}
			msg = msg[:rapid.IntRange(0, len(msg)).Draw(t, "cut")]
		}
		for _, decode := range []func([]byte) (any, error){decodeFact, decodeJournal, decodePart} {
			if _, err := decode(msg); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
				t.Fatalf("error of no known kind: %v", err)
			}
		}
	})
}
