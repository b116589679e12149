package events

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// update creates fixtures that are missing. One that is there is never written again:
// it is what an older program has stored.
var update = flag.Bool("update", false, "create missing golden files")

// fixture is a frozen message with what it means.
type fixture struct {
	name   string
	encode func(t *testing.T) []byte
	decode func(msg []byte) (any, error)
	want   any
}

func decodeFact(msg []byte) (any, error)    { return Unmarshal(msg) }
func decodeJournal(msg []byte) (any, error) { return DecodeJournal(msg) }
func decodePart(msg []byte) (any, error)    { return DecodeObjectPart(msg) }

func fixtures() []fixture {
	var all []fixture
	for _, f := range sampleFacts() {
		all = append(all, factFixture(f.Kind(), f))
	}
	for name, e := range sampleEvents() {
		all = append(all, batchFixture(name, []Entry{sampleEntry(e)}))
	}
	all = append(all, batchFixture("batch", entriesOf(firstEvents())), batchFixture("batch_all", entriesOf(sampleEvents())))
	part := sampleEntry(Written{Image: 3, Offset: 1 << 20, Data: []byte("part")})
	part.Part = Part{Index: 1, Count: 128}
	all = append(all, batchFixture("part", []Entry{part}))
	claim := sampleClaim()
	msg, mark := claim.Encode(sampleTime)
	claim.Mark, claim.Predecessor.Time = mark, 0 // the predecessor's time is not on the wire
	object, layered, same := samplePart(), sampleLayerPart(), sampleLayerPart()
	same.Same = []byte{1, 0, 0, 0, 0, 0, 0, 0}
	resync := AcquireRequested{
		Assignment: sampleAssignment(), Pool: "vms", Path: "/prod/db", Resync: 300, KeepRefused: true, At: sampleTime,
	}
	resync.Role = Slave
	turn := sampleTurn()
	return append(all,
		factFixture("lifecycle_derived", &turn),
		factFixture("acquire_resync", &resync),
		factFixture("token_created_key", &TokenCreated{
			Pool: "vms", Token: "t1", SecretHash: []byte{0, 1, 0xfe, 0xff}, Expires: sampleTime + 1, At: sampleTime, Key: "UABC",
		}),
		factFixture("peer_added_key", &PeerAdded{
			Pool: "vms", Peer: "00ff", Site: "west", URL: "tls://west:4222", Direction: ReceiveAndSend,
			Number: 4095, Token: "t1", At: sampleTime, Key: "UDEF", Auth: true,
		}),
		factFixture("acquire_requested_elsewhere", &AcquireRequested{
			Assignment: sampleAssignment(), Pool: "vms", Path: "/prod/db", At: sampleTime, Elsewhere: true,
		}),
		factFixture("head_heard_source", &HeadHeard{
			Directory: sampleID, Client: "west.n1", Source: "east", Head: sampleMark(), At: sampleTime,
		}),
		factFixture("head_passed_on", &HeadAdvanced{
			Directory: sampleID, Logged: sampleMark(), Safe: sampleMark(), At: sampleTime,
			Origin: &Origin{Logged: sampleMark(), At: sampleTime, Age: 1500 * time.Millisecond},
		}),
		factFixture("head_passed_on_site", &HeadAdvanced{
			Directory: sampleID, Logged: sampleMark(), Safe: sampleMark(), At: sampleTime,
			Origin: &Origin{Logged: sampleMark(), At: sampleTime, Age: 1500 * time.Millisecond, Site: "east"},
		}),
		factFixture("position_held", &PositionCommitted{
			Directory: sampleID, Client: "west.n1", Role: Slave, State: ClientConnected, Mark: sampleMark(), At: sampleTime,
			Incarnation: "cafe", Epoch: 300,
		}),
		fixture{"tag", func(*testing.T) []byte { return msg }, decodeJournal, &claim},
		fixture{"object", func(*testing.T) []byte { return object.Encode() }, decodePart, &object},
		fixture{"object_layer", func(*testing.T) []byte { return layered.Encode() }, decodePart, &layered},
		fixture{"object_same", func(*testing.T) []byte { return same.Encode() }, decodePart, &same},
	)
}

func factFixture(name string, f Fact) fixture {
	return fixture{name, func(t *testing.T) []byte {
		msg, err := Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		return msg
	}, decodeFact, f}
}

func entriesOf(sample map[string]Event) []Entry {
	var entries []Entry
	for _, e := range sample {
		entries = append(entries, Entry{Event: e, Before: []Position{}})
	}
	slices.SortFunc(entries, func(a, b Entry) int { return int(a.Event.kind()) - int(b.Event.kind()) })
	return entries
}

func batchFixture(name string, entries []Entry) fixture {
	b := NewBatchBuilder(nil)
	for _, e := range entries {
		b.Append(e)
	}
	msg, end := b.Seal(0x2007, sampleMark(), At(0x2007, 39), sampleTime)
	want := &Batch{
		Tag: 0x2007, First: 42, Before: sampleMark().Chain, Safe: At(0x2007, 39), Entries: entries, End: end,
	}
	return fixture{name, func(*testing.T) []byte { return msg }, decodeJournal, want}
}

func golden(name string) string { return filepath.Join("testdata", "golden", name+".v1.hex") }

func readGolden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(golden(name))
	if err != nil {
		t.Fatal(err)
	}
	msg, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatalf("%s: %v", golden(name), err)
	}
	return msg
}

// createGolden writes a fixture unless it is there.
func createGolden(t *testing.T, name string, msg []byte) {
	t.Helper()
	f, err := os.OpenFile(golden(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for line := range slices.Chunk(msg, 32) {
		if _, err := fmt.Fprintf(f, "%x\n", line); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGolden proves that what was ever stored still means the same, and that the
// program still writes it.
func TestGolden(t *testing.T) {
	for _, f := range fixtures() {
		t.Run(f.name, func(t *testing.T) {
			if *update {
				createGolden(t, f.name, f.encode(t))
			}
			msg := readGolden(t, f.name)
			got, err := f.decode(msg)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(f.want, got); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
			if again := f.encode(t); !bytes.Equal(again, msg) {
				t.Errorf("encoded again:\n%x\nstored:\n%x", again, msg)
			}
		})
	}
}

// TestGoldenIsComplete proves that each kind of the closed sets has a fixture, and each
// fixture a kind.
func TestGoldenIsComplete(t *testing.T) {
	want := map[string]bool{
		"acquire_resync":              true,
		"acquire_requested_elsewhere": true,
		"batch":                       true,
		"batch_all":                   true,
		"head_heard_source":           true,
		"head_passed_on":              true,
		"head_passed_on_site":         true,
		"lifecycle_derived":           true,
		"object":                      true,
		"object_layer":                true,
		"object_same":                 true,
		"part":                        true,
		"peer_added_key":              true,
		"position_held":               true,
		"tag":                         true,
		"token_created_key":           true,
	}
	for _, f := range everyFact() {
		want[f.Kind()] = true
	}
	kinds := map[eventKind]string{}
	for name, e := range sampleEvents() {
		want[name] = true
		kinds[e.kind()] = name
	}
	for k := range 256 {
		if _, known := fieldsOf(eventKind(k)); known && kinds[eventKind(k)] == "" {
			t.Errorf("no sample of event kind %d", k)
		}
	}
	files, err := filepath.Glob(golden("*"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, file := range files {
		got[strings.TrimSuffix(filepath.Base(file), ".v1.hex")] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fixtures (-want +got):\n%s", diff)
	}
}

// TestEveryFactIsListed reads the package's source for types that call themselves a fact.
func TestEveryFactIsListed(t *testing.T) {
	listed := map[string]bool{}
	for _, f := range everyFact() {
		name := fmt.Sprintf("%T", f)
		if listed[name] || listed[f.Kind()] {
			t.Errorf("%s or its kind is listed twice", name)
		}
		listed[name], listed[f.Kind()] = true, true
	}
	for _, name := range receiversOf(t, "Kind") {
		if !listed["*events."+name] {
			t.Errorf("%s is not in everyFact", name)
		}
	}
}

// receiversOf returns the types of the package that have a method.
func receiversOf(t *testing.T, method string) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv == nil || f.Name.Name != method {
				continue
			}
			if star, ok := f.Recv.List[0].Type.(*ast.StarExpr); ok {
				names = append(names, star.X.(*ast.Ident).Name)
			}
		}
	}
	if len(names) == 0 {
		t.Fatalf("no type has a method %s", method)
	}
	return names
}
