package events

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestPositions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tag, entry := Tag(rapid.Uint32().Draw(t, "tag")), rapid.Uint32().Draw(t, "entry")
		p := At(tag, entry)
		if p.Tag() != tag || p.Entry() != entry {
			t.Fatalf("%d.%d became %d.%d", tag, entry, p.Tag(), p.Entry())
		}
		later := At(Tag(rapid.Uint32().Draw(t, "tag2")), rapid.Uint32().Draw(t, "entry2"))
		if want := later.Tag() > tag || later.Tag() == tag && later.Entry() > entry; (later > p) != want {
			t.Fatalf("%v > %v: %v", later, p, later > p)
		}
	})
}

// TestTags proves that two sites never give out the same tag, and that tags rise.
func TestTags(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tag := Tag(rapid.Uint32Max(1<<32-1-1<<siteBits).Draw(t, "tag"))
		a := uint16(rapid.IntRange(1, MaxSiteNumber).Draw(t, "a"))
		b := uint16(rapid.IntRange(1, MaxSiteNumber).Draw(t, "b"))
		ours, err := tag.Next(a)
		if err != nil || ours.Site() != a || ours <= tag {
			t.Fatalf("%x at site %d: %x, %v", tag, a, ours, err)
		}
		theirs, err := tag.Next(b)
		if err != nil || (ours == theirs) != (a == b) {
			t.Fatalf("%x at sites %d and %d: %x %x, %v", tag, a, b, ours, theirs, err)
		}
		if back, err := theirs.Next(a); err == nil && back <= ours && back <= theirs {
			t.Fatalf("%x does not rise above %x and %x", back, ours, theirs)
		}
	})
	if _, err := Tag(1<<32 - 1).Next(1); !errors.Is(err, ErrTagsExhausted) {
		t.Errorf("behind the last generation: %v", err)
	}
	if last, err := Tag(maxGeneration<<siteBits - 1).Next(MaxSiteNumber); err != nil || last != 1<<32-1 {
		t.Errorf("the last tag: %x, %v", last, err)
	}
}

func TestJSONRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Mark{
			Position: Position(rapid.Uint64().Draw(t, "position")), Chain: Chain(rapid.Uint64().Draw(t, "chain")),
			Entries: rapid.Uint64().Draw(t, "entries"), Bytes: rapid.Uint64().Draw(t, "bytes"),
			Time: Instant(rapid.Int64().Draw(t, "time")),
		}
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Mark
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s:\n%s", text, diff)
		}
	})
}

func TestJSONForms(t *testing.T) {
	got, err := json.Marshal(Mark{Position: At(4103, 7), Chain: 0xbeef, Entries: 7, Bytes: 9, Time: sampleTime})
	want := `{"position":{"tag":4103,"entry":7},"chain":"000000000000beef","entries":7,"bytes":9,"time":"2026-11-20T00:00:00.123456789Z"}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s\nwant %s, %v", got, want, err)
	}
	for _, bad := range []string{
		`{"chain":"xyz"}`, `{"chain":""}`, `{"chain":7}`, `{"chain":"10000000000000000"}`, `{"time":"yesterday"}`, `{"time":5}`,
		`{"time":"9999-01-01T00:00:00Z"}`, `{"time":"1500-01-01T00:00:00Z"}`, `{"position":{"tag":-1}}`, `{"position":{"entry":4294967296}}`, `{"position":"1.2"}`,
	} {
		var m Mark
		if err := json.Unmarshal([]byte(bad), &m); err == nil {
			t.Errorf("%s: accepted as %+v", bad, m)
		}
	}
	var m Mark
	if err := json.Unmarshal([]byte(`{"time":null,"position":null}`), &m); err != nil || m != (Mark{}) {
		t.Errorf("null: %+v, %v", m, err)
	}
}

func TestInstant(t *testing.T) {
	if !Instant(0).Time().IsZero() || InstantOf(time.Time{}) != 0 {
		t.Error("no time is not no time")
	}
	now := time.Date(2026, 11, 20, 1, 2, 3, 4, time.FixedZone("", 3600))
	if got := InstantOf(now).Time(); !got.Equal(now) || got.Location() != time.UTC {
		t.Errorf("got %v", got)
	}
}
