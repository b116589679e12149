package events

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func seed(f *testing.F) {
	for _, fix := range fixtures() {
		f.Add(readGolden(f, fix.name))
	}
}

func knownError(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
		t.Fatalf("error of no known kind: %v", err)
	}
}

// FuzzUnmarshal demands that what decodes encodes, and then decodes to the same.
func FuzzUnmarshal(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, msg []byte) {
		fact, err := Unmarshal(msg)
		if err != nil {
			knownError(t, err)
			return
		}
		again, err := Marshal(fact)
		if err != nil {
			t.Fatal(err)
		}
		same, err := Unmarshal(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fact, same, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzDecodeJournal gives every input a right checksum as well: a peer can do that.
func FuzzDecodeJournal(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, msg []byte) {
		_, _ = DecodeJournal(msg)
		m, err := DecodeJournal(resealed(msg))
		if err != nil {
			knownError(t, err)
			return
		}
		if batch, ok := m.(*Batch); ok {
			checkBatch(t, batch)
		}
		m.Follows(Mark{})
		m.Continues()
	})
}

// resealed gives a message the checksum that it should have.
func resealed(msg []byte) []byte {
	body := bytes.Clone(msg[:max(0, len(msg)-chainSize)])
	return appendUint64(body, xxhash.Sum64(body))
}

// checkBatch demands that the entries of a batch survive another round.
func checkBatch(t *testing.T, b *Batch) {
	t.Helper()
	builder := NewBatchBuilder(nil)
	for _, e := range b.Entries {
		builder.Append(e)
	}
	before := Mark{Position: At(b.Tag, b.First-1), Chain: b.Before}
	msg, end := builder.Seal(b.Tag, before, b.Safe, b.End.Time)
	again, err := DecodeBatch(msg)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.Entries, again.Entries, cmpopts.EquateEmpty()); diff != "" {
		t.Fatal(diff)
	}
	if end.Position != b.End.Position || again.First != b.First {
		t.Fatalf("entries %d to %v became %d to %v", b.First, b.End.Position, again.First, end.Position)
	}
}

func FuzzDecodeObjectPart(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, msg []byte) {
		_, _ = DecodeObjectPart(msg)
		part, err := DecodeObjectPart(resealed(msg))
		if err != nil {
			knownError(t, err)
			return
		}
		again, err := DecodeObjectPart(part.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(part, again, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}
