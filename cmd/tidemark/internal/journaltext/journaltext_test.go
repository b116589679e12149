package journaltext

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"tidemark/events"
)

// filled returns an event of each kind whose fields all differ from zero.
func filled() []events.Event {
	all := kinds()
	for i, zero := range all {
		v := reflect.New(reflect.TypeOf(zero)).Elem()
		for j := range v.NumField() {
			switch field := v.Field(j); field.Addr().Interface().(type) {
			case *[]byte:
				field.SetBytes([]byte{0xde, 0xad, 0xbe, 0xef})
			case *[]events.ImageID:
				field.Set(reflect.ValueOf([]events.ImageID{3, 1 << 31}))
			case *events.Event:
				field.Set(reflect.ValueOf(events.ImageCloned{Image: 2, Name: "c<d>", Parent: 1, Snapshot: 4}))
			case *string:
				field.SetString("näme \"x\"")
			case *bool:
				field.SetBool(true)
			default:
				field.SetUint(uint64(8 * (j + 1)))
			}
		}
		all[i] = v.Interface().(events.Event)
	}
	return append(all, events.Discarded{Image: 1<<32 - 1, Offset: 1<<63 - 1, Length: 1 << 62}, events.OperationFinished{Started: events.At(9, 1), Failure: ""})
}

func TestEveryEventIsReadAsItWasWritten(t *testing.T) {
	var file []byte
	var want []Line
	for i, e := range filled() {
		l := Line{Position: events.At(4097, uint32(i+1)), Time: 5, Entry: events.Entry{Event: e}, Named: Named{"disk", "snap", []string{"a", "b"}}}
		if i%2 == 0 {
			l.Entry.Part, l.Entry.Version, l.Named = events.Part{Index: 1, Count: 3}, events.At(7, 7), Named{}
		}
		var err error
		if file, err = l.Append(append(file, "# a comment\n\n"...)); err != nil {
			t.Fatalf("%T: %v", e, err)
		}
		want = append(want, l)
	}
	r := NewReader(bytes.NewReader(file))
	for i, w := range want {
		got, err := r.Next()
		if err != nil || !reflect.DeepEqual(got, w) || r.Line() != 3*(i+1) {
			t.Errorf("line %d: %+v, %v\nwant %+v", r.Line(), got, err, w)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("behind the last line: %v", err)
	}
}

// TestKindsAreComplete: what the binary form knows has a text, and the names are those
// that exports were written with.
func TestKindsAreComplete(t *testing.T) {
	known := 0
	for k := range 256 {
		// The entry [kind, 0, []] without fields: known kinds lack some, or are complete.
		_, err := events.DecodeEntry([]byte{0x93, 0xcc, byte(k), 0, 0x90})
		if !errors.Is(err, events.ErrFormat) {
			known++
		}
	}
	if n := len(kinds()); n != known {
		t.Errorf("%d kinds have a text, the binary form knows %d", n, known)
	}
	var names []string
	for _, k := range kinds() {
		names = append(names, Kind(k))
	}
	const want = "image_created image_resized image_removed image_cloned image_renamed image_linked image_unlinked image_flattened " +
		"feature_changed metadata_set metadata_removed snapshots_created snapshot_removed snapshot_renamed snapshot_protected " +
		"snapshot_unprotected snapshot_rolled_back snapshot_limit_changed written discarded zeroed pattern_written compare_written " +
		"flushed operation_started operation_finished"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("kinds are\n%s, want\n%s", got, want)
	}
}

func TestShown(t *testing.T) {
	for want, e := range map[string]events.Entry{
		`{"position":{"tag":1,"entry":2},"before":[],"kind":"written","image":3,"offset":4,"length":20,"data_first":"61616161616161616161616161616161"}`: {
			Event: events.Written{Image: 3, Offset: 4, Data: bytes.Repeat([]byte("a"), 20)},
		},
		`{"position":{"tag":1,"entry":2},"version":{"tag":0,"entry":7},"part":{"index":0,"count":2},"before":[{"tag":0,"entry":5}],"kind":"pattern_written","image":3,"offset":4,"length":8,"pattern_first":"6162"}`: {
			Version: 7, Part: events.Part{Count: 2}, Before: []events.Position{5}, Event: events.PatternWritten{Image: 3, Offset: 4, Length: 8, Pattern: []byte("ab")},
		},
		`{"position":{"tag":1,"entry":2},"before":[],"kind":"operation_started","intent":{"kind":"snapshots_created","name":"s","group":true,"first":1,"images":[1,2]}}`: {
			Event: events.OperationStarted{Intent: events.SnapshotsCreated{Name: "s", Group: true, First: 1, Images: []events.ImageID{1, 2}}},
		},
		`{"position":{"tag":1,"entry":2},"before":[],"kind":"operation_finished","started":{"tag":1,"entry":1},"failure":"busy"}`: {
			Event: events.OperationFinished{Started: events.At(1, 1), Failure: "busy"},
		},
		`{"position":{"tag":1,"entry":2},"before":[],"kind":"flushed"}`: {Event: events.Flushed{}},
	} {
		if got, err := json.Marshal(Shown{events.At(1, 2), e}); err != nil || string(got) != want {
			t.Errorf("shown as\n%s, %v\nwant\n%s", got, err, want)
		}
	}
}

const written = `{"position":{"tag":1,"entry":2},"kind":"written","image":3,"offset":0,"length":1,"data":"YQ=="}`

// hostile lines: of lengths that lie, and documents that are no events.
func hostile() []string {
	valid := func(s string) string { return lined(s) }
	return []string{
		"x", "5", "-5 {}", "+2 {}", "99999999999999999999999999 {}", "9223372036854775807 {}", "3 {}", " {}", "1 {}", "2  {}", "0 ", "\x00",
		lined(written) + "x", strings.TrimSuffix(lined(written), "}"),
		valid("{}"), valid("null"), valid("[]"), valid("5"), valid("{"), valid(strings.Repeat("[", 20000)),
		valid(strings.Replace(written, "YQ==", "Y", 1)), valid(strings.Replace(written, "YQ==", "?Q==", 1)),
		valid(strings.Replace(written, `"length":1`, `"length":2`, 1)), valid(strings.Replace(written, `"length":1`, `"length":-1`, 1)),
		valid(strings.Replace(written, `"offset":0`, `"offset":-1`, 1)), valid(strings.Replace(written, `"offset":0`, `"offset":18446744073709551615`, 1)),
		valid(strings.Replace(written, `"offset":0`, `"offset":99999999999999999999999`, 1)), valid(strings.Replace(written, `"image":3`, `"image":4294967296`, 1)),
		valid(strings.Replace(written, `"image":3,`, ``, 1)), valid(strings.Replace(written, `"image":3`, `"image":null`, 1)),
		valid(strings.Replace(written, `"kind":"written"`, `"kind":"overwritten"`, 1)), valid(strings.Replace(written, `"kind":"written",`, ``, 1)),
		valid(strings.Replace(written, `"tag":1`, `"tag":4294967296`, 1)), valid(strings.Replace(written, `"image":3`, `"image":3,"more":1`, 1)),
		valid(strings.Replace(written, `"image":3`, `"image":3,"part":{"index":2,"count":2}`, 1)),
		valid(strings.Replace(written, `"image":3`, `"image":3,"part":{"index":0,"count":4294967295}`, 1)),
		valid(`{"position":{"tag":1,"entry":2},"kind":"discarded","image":1,"offset":0,"length":0}`),
		valid(`{"position":{"tag":1,"entry":2},"kind":"pattern_written","image":1,"offset":0,"length":3,"pattern":"YWI="}`),
		valid(`{"position":{"tag":1,"entry":2},"kind":"pattern_written","image":1,"offset":0,"length":3,"pattern":""}`),
		valid(`{"position":{"tag":1,"entry":2},"kind":"compare_written","image":1,"offset":0,"compare":"YWI=","length":1,"data":"YQ=="}`),
		valid(`{"position":{"tag":1,"entry":2},"kind":"operation_started","intent":{"kind":"flushed"}}`),
		valid(`{"position":{"tag":1,"entry":2},"kind":"operation_started","intent":{"kind":"image_removed","image":1,"x":1}}`),
		valid(`{"position":{"tag":1,"entry":2},"kind":` + strings.Repeat(`"operation_started","intent":{"kind":`, 5000) + `"flushed"` + strings.Repeat("}", 5001)),
	}
}

func lined(document string) string {
	line, _ := json.Marshal(len(document))
	return string(line) + " " + document
}

func TestHostileLines(t *testing.T) {
	if _, err := ParseLine([]byte(lined(written))); err != nil {
		t.Fatalf("the line that the others are made of: %v", err)
	}
	for _, line := range hostile() {
		r := NewReader(strings.NewReader(line + "\n" + lined(written)))
		if l, err := r.Next(); !errors.Is(err, ErrLine) || len(err.Error()) > 500 {
			t.Errorf("%.120q is read as %+v, %.600v", line, l, err)
		}
		if _, err := r.Next(); err != nil || r.Line() != 2 {
			t.Errorf("the line behind %.120q: %v", line, err)
		}
	}
	long := strings.Repeat("9", 3*LineBytesMax)
	r := NewReader(strings.NewReader(long + "\n" + lined(written) + "\n" + long))
	for i, wantErr := range []bool{true, false, true} {
		if _, err := r.Next(); errors.Is(err, ErrLine) != wantErr || wantErr && !strings.Contains(err.Error(), "it has more than") {
			t.Errorf("line %d: %v", i+1, err)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("behind the last line: %v", err)
	}
}

func FuzzParseLine(f *testing.F) {
	for _, line := range append(hostile(), lined(written)) {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := ParseLine(text)
		if err != nil {
			return
		}
		again, err := l.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseLine(bytes.TrimSuffix(again, []byte("\n")))
		if err != nil || !reflect.DeepEqual(back, l) {
			t.Errorf("%+v\nis read back as\n%+v, %v", l, back, err)
		}
	})
}

// TestNames follows names over a history, and back.
func TestNames(t *testing.T) {
	at := func(n int) events.Position { return events.At(1, uint32(n)) }
	history := []struct {
		e    events.Event
		want Named
	}{
		{events.Written{Image: 1, Data: []byte("x")}, Named{Image: "old"}},
		{events.ImageRenamed{Image: 1, From: "old", To: "new"}, Named{Image: "old"}},
		{events.Written{Image: 1, Data: []byte("x")}, Named{Image: "new"}},
		{events.OperationStarted{Intent: events.ImageCreated{Image: 3, Name: "third", Size: 1}}, Named{Image: "third"}},
		{events.Written{Image: 3, Data: []byte("x")}, Named{}}, // it does not exist yet
		{events.OperationFinished{Started: at(4)}, Named{Image: "third"}},
		{events.OperationStarted{Intent: events.ImageRenamed{Image: 3, From: "third", To: "3"}}, Named{Image: "third"}},
		{events.OperationFinished{Started: at(7), Failure: "exists"}, Named{}},
		{events.OperationFinished{Started: at(99)}, Named{}},
		{events.Zeroed{Image: 3, Length: 1}, Named{Image: "third"}},
		{events.ImageLinked{Image: 3, Name: "alias"}, Named{Image: "third"}},
		{events.ImageUnlinked{Image: 3, Name: "third"}, Named{Image: "third"}},
		{events.SnapshotsCreated{Name: "s", First: 5, Images: []events.ImageID{1, 3}}, Named{Images: []string{"new", "alias"}}},
		{events.SnapshotProtected{Image: 3, Snapshot: 6}, Named{Image: "alias", Snapshot: "s"}},
		{events.ImageCloned{Image: 4, Name: "clone", Parent: 3, Snapshot: 6}, Named{Image: "alias", Snapshot: "s"}},
		{events.SnapshotRenamed{Image: 1, Snapshot: 5, Name: "t"}, Named{Image: "new", Snapshot: "s"}},
		{events.SnapshotRolledBack{Image: 1, Snapshot: 5}, Named{Image: "new", Snapshot: "t"}},
		{events.SnapshotRemoved{Image: 1, Snapshot: 5}, Named{Image: "new", Snapshot: "t"}},
		{events.SnapshotRolledBack{Image: 2, Snapshot: 1}, Named{Image: "second", Snapshot: "before"}},
		{events.ImageRemoved{Image: 2}, Named{Image: "second"}},
		{events.MetadataSet{Image: 4, Key: "k", Value: "v"}, Named{Image: "clone"}},
	}
	// What the site says at the end of it; image 2 is gone.
	now := func() *Names {
		n := NewNames()
		n.AddImage(1, "new")
		n.AddImage(3, "alias")
		n.AddImage(4, "clone")
		n.AddSnapshot(6, "s")
		return n
	}
	var facts []events.Event
	forward := now()
	for i, h := range history {
		if fact := forward.Pass(at(i+1), h.e); fact != nil {
			facts = append(facts, fact)
		}
	}
	n := now()
	for i := len(facts) - 1; i >= 0; i-- {
		n.Undo(facts[i])
	}
	n.AddImage(2, "second") // a removal does not say what it removed
	n.AddSnapshot(1, "before")
	for i, h := range history {
		got := n.Of(h.e)
		if !reflect.DeepEqual(got, h.want) {
			t.Errorf("entry %d, %T: named %+v, want %+v", i+1, h.e, got, h.want)
		}
		if fact := n.Becomes(h.e); fact != nil && i != 4 && !got.Complete(fact) {
			t.Errorf("entry %d: %+v is not complete", i+1, got)
		}
		n.Pass(at(i+1), h.e)
	}
	if named := NewNames().Of(events.SnapshotRemoved{Image: 1, Snapshot: 1}); named.Complete(events.SnapshotRemoved{Image: 1, Snapshot: 1}) {
		t.Error("a snapshot without a name is complete")
	}
}
