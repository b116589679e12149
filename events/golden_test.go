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
	"maps"
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

const (
	sampleTime = Instant(1_795_132_800_123_456_789)
	sampleID   = DirectoryID("0123456789abcdef")
)

func sampleMark() Mark {
	return Mark{Position: At(0x2007, 41), Chain: 0xfeedfacecafebeef, Entries: 141, Bytes: 70_000, Time: sampleTime - 1000}
}

func sampleAssignment() Assignment {
	return Assignment{
		Operation: "op1", Directory: sampleID, Node: "n1", Incarnation: "cafe", Role: Master, Epoch: 300,
	}
}

// sampleFacts has one fact of each kind, with every field set.
func sampleFacts() []Fact {
	return []Fact{
		&PoolCreated{Pool: "vms", At: sampleTime},
		&PoolRemoved{Pool: "vms", At: sampleTime},
		&MirrorEnabled{Pool: "vms", At: sampleTime},
		&MirrorDisabled{Pool: "vms", At: sampleTime},
		&TokenCreated{Pool: "vms", Token: "t1", SecretHash: []byte{0, 1, 0xfe, 0xff}, Expires: sampleTime + 1, At: sampleTime},
		&PeerAdded{
			Pool: "vms", Peer: "00ff", Site: "west", URL: "nats://west:4222", Direction: ReceiveOnly,
			Number: 4095, Token: "t1", At: sampleTime,
		},
		&PeerRemoved{Pool: "vms", Peer: "00ff", At: sampleTime},
		&SiteNumbered{Site: "00ee", Name: "east", Number: 7, At: sampleTime},
		&DirectoryCreated{Directory: sampleID, Pool: "vms", Path: "/prod/db", At: sampleTime},
		&DirectoryTracked{Directory: sampleID, Pool: "vms", Path: "/prod/db", At: sampleTime},
		&DirectoryRemoved{Directory: sampleID, Pool: "vms", At: sampleTime},
		&DirectoryMapped{Directory: sampleID, Pool: "vms", Node: "n1", Role: Slave, Epoch: 1 << 40, At: sampleTime},
		&DirectoryFenced{
			Directory: sampleID, Pool: "vms", Node: "n1", Service: "replayer", Incarnation: "cafe", Epoch: 300, At: sampleTime,
		},
		&PositionsFenced{Directory: sampleID, Epoch: 300, At: sampleTime},
		&RemovalRefused{Directory: sampleID, Pool: "vms", Operation: "op1", Code: "busy", Message: "2 images", At: sampleTime},
		&PromotionProposed{Directory: sampleID, Pool: "vms", At: sampleTime},
		&PromotionWithdrawn{Directory: sampleID, Pool: "vms", At: sampleTime},
		&PromotionRequested{Directory: sampleID, Pool: "vms", Force: true, At: sampleTime},
		&DemotionRequested{Directory: sampleID, Pool: "vms", At: sampleTime},
		&RoleChangeRefused{
			Directory: sampleID, Pool: "vms", Role: Slave, Operation: "op1", Code: "split_brain",
			Message: "no: ä", At: sampleTime,
		},
		&DirectoryForgotten{Directory: sampleID, Pool: "vms", At: sampleTime},
		&DirectoryConfigured{
			Directory: sampleID, Pool: "vms", Delay: 10 * time.Minute, TargetRPO: 30 * time.Second, SyncRate: 10 << 20, At: sampleTime,
		},
		&ResyncRequested{Directory: sampleID, Pool: "vms", Number: 300, KeepRefused: true, At: sampleTime},
		&InstanceAdded{Node: "n1", Service: "journal", Incarnation: "cafe", At: sampleTime},
		&InstanceRemoved{Node: "n1", Service: "journal", Incarnation: "cafe", Reason: "silent", At: sampleTime},
		&Heartbeat{Node: "n1", Service: "replayer", Incarnation: "cafe", Leaving: true, At: sampleTime},
		&AcquireRequested{Assignment: sampleAssignment(), Pool: "vms", Path: "/prod/db", Promote: TagForced, At: sampleTime},
		&ReleaseRequested{
			Assignment: sampleAssignment(), Pool: "vms", Path: "/prod/db", Demote: true, Remove: true, At: sampleTime,
		},
		&AcquireAcknowledged{
			Assignment: sampleAssignment(), Code: "busy", Message: "in use", Mark: sampleMark(), At: sampleTime,
		},
		&ReleaseAcknowledged{
			Assignment: sampleAssignment(), Code: "busy", Message: "in use", Quiesced: true, Mark: sampleMark(), At: sampleTime,
		},
		&PositionCommitted{
			Directory: sampleID, Client: "west.n1", Role: Slave, State: ClientConnected, Mark: sampleMark(), At: sampleTime,
		},
		&HeadAdvanced{Directory: sampleID, Logged: sampleMark(), Safe: Mark{Position: At(0x2007, 40)}, At: sampleTime},
		&HeadHeard{Directory: sampleID, Client: "west.n1", Head: sampleMark(), At: sampleTime},
		&PlacementConfigured{Throttle: 300_000_000_000, By: BalanceSize, At: sampleTime},
		&DirectoryMeasured{Directory: sampleID, Client: "west.n1", Node: "n1", Bytes: 1 << 33, Rate: 70_000, Complete: true, At: sampleTime},
		&LifecycleNoted{
			Directory: sampleID, Pool: "vms", Path: "/", Node: "n1", What: Diverged, Mark: sampleMark(),
			Detail: "two histories", At: sampleTime,
		},
		&TurnDerived{Cause: Cause{Stream: StreamInstances, Sequence: 300, Part: 1}, Note: 70_000, At: sampleTime},
		&LetterDied{
			Webhook: "0123456789abcdef", Host: "hooks.example.com", Sequence: 70_000, Turn: sampleTurn(), Tries: 12,
			Error: "503 Service Unavailable", At: sampleTime,
		},
		&LetterResent{
			Webhook: "0123456789abcdef", Host: "hooks.example.com", Sequence: 70_000, Turn: sampleTurn(), At: sampleTime,
		},
		&LetterDiscarded{Webhook: "0123456789abcdef", Sequence: 70_000, At: sampleTime},
	}
}

func sampleTurn() LifecycleNoted {
	return LifecycleNoted{
		Directory: sampleID, Pool: "vms", Path: "/", Node: "n1", What: Lagging, With: "west.n1", Mark: sampleMark(),
		Detail: "far behind", Cause: &Cause{Stream: StreamDirectories, Sequence: 3}, At: sampleTime,
	}
}

// sampleEvents has one event of each kind.
func sampleEvents() map[string]Event {
	all := firstEvents()
	maps.Copy(all, map[string]Event{
		"pattern_written":        PatternWritten{Image: 3, Offset: 512, Length: 1 << 20, Pattern: []byte{1, 2, 3, 4}},
		"compare_written":        CompareWritten{Image: 3, Offset: 1 << 33, Compare: []byte("old"), Data: []byte("new")},
		"flushed":                Flushed{},
		"image_cloned":           ImageCloned{Image: 9, Name: "child", Parent: 3, Snapshot: 70_000},
		"image_renamed":          ImageRenamed{Image: 9, From: "child", To: strings.Repeat("ü", 100)},
		"image_linked":           ImageLinked{Image: 9, Name: "other"},
		"image_unlinked":         ImageUnlinked{Image: 9, Name: "other"},
		"image_flattened":        ImageFlattened{Image: 9},
		"feature_changed":        FeatureChanged{Image: 9, Feature: FeatureReadOnly, Enabled: true},
		"metadata_set":           MetadataSet{Image: 9, Key: "owner", Value: strings.Repeat("x", MetadataValueMax)},
		"metadata_removed":       MetadataRemoved{Image: 9, Key: "owner"},
		"snapshots_created":      SnapshotsCreated{Name: "noon", Group: true, First: 5, Images: []ImageID{1, 3, 9}},
		"snapshot_removed":       SnapshotRemoved{Image: 3, Snapshot: 5},
		"snapshot_renamed":       SnapshotRenamed{Image: 3, Snapshot: 5, Name: "high noon"},
		"snapshot_protected":     SnapshotProtected{Image: 3, Snapshot: 5},
		"snapshot_unprotected":   SnapshotUnprotected{Image: 3, Snapshot: 5},
		"snapshot_rolled_back":   SnapshotRolledBack{Image: 3, Snapshot: 1<<32 - 1},
		"snapshot_limit_changed": SnapshotLimitChanged{Image: 3, Limit: 12},
		"operation_started":      OperationStarted{Intent: SnapshotsCreated{Name: "noon", First: 5, Images: []ImageID{3}}},
		"operation_finished":     OperationFinished{Started: At(0x2007, 40), Failure: "busy"},
	})
	return all
}

// firstEvents are those of the first batches that were ever written.
func firstEvents() map[string]Event {
	return map[string]Event{
		"written":       Written{Image: 3, Offset: 1<<40 + 512, Data: bytes.Repeat([]byte{0xa5, 0x00, 0xff}, 100)},
		"discarded":     Discarded{Image: 3, Offset: 4096, Length: 1 << 33},
		"zeroed":        Zeroed{Image: 70_000, Offset: 200, Length: 1},
		"image_created": ImageCreated{Image: 1, Name: "disk-é", Size: 1 << 40, ObjectSize: 4 << 20},
		"image_resized": ImageResized{Image: 1<<32 - 1, Size: 0},
		"image_removed": ImageRemoved{Image: 1},
	}
}

func sampleBatch(entries ...Entry) []byte {
	b := NewBatchBuilder(nil)
	for _, e := range entries {
		b.Append(e)
	}
	msg, _ := b.Seal(0x2007, sampleMark(), At(0x2007, 39), sampleTime)
	return msg
}

// sampleEntry has versions of every width on the wire.
func sampleEntry(e Event) Entry {
	return Entry{Version: At(0x1007, 5), Before: []Position{0, 127, 128, 1 << 8, 1 << 16, 1 << 32, 1<<64 - 1}, Event: e}
}

func sampleClaim() TagClaimed {
	return TagClaimed{
		Tag: 0x3009, Reason: TagPromoted, Site: "00ee", Node: "n1", Incarnation: "cafe",
		Predecessor: sampleMark(), PredecessorSite: "00ff",
	}
}

func samplePart() ObjectPart {
	return ObjectPart{
		Image: 3, Index: 1 << 40, Version: At(0x2007, 12), Part: 1, Parts: 3, AtLeast: At(0x2007, 11), AtMost: At(0x2007, 15),
		Blocks: []byte{1, 2, 3, 4, 5, 6, 7, 8}, Data: bytes.Repeat([]byte("tide"), 64),
	}
}

func sampleLayerPart() ObjectPart {
	p := samplePart()
	p.Image, p.Layer, p.Hidden = 0, 1<<31, []byte{0x80, 0, 0, 0, 0, 0, 0, 1}
	return p
}

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
		factFixture("release_requested_discard", &ReleaseRequested{
			Assignment: sampleAssignment(), Pool: "vms", Path: "/prod/db", At: sampleTime, Discard: true,
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
		"release_requested_discard":   true,
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
