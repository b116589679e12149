package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"testing"
	"time"

	"tidemark/events"
)

// decodedJSON runs decode on a payload and returns what it printed.
func decodedJSON(t *testing.T, payload string) map[string]any {
	t.Helper()
	code, out, messages := tidemark(t, payload, "decode")
	if code != 0 {
		t.Fatalf("decode ended with %d: %s", code, messages)
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	return m
}

func TestDecodeJournalMessages(t *testing.T) {
	now := events.InstantOf(time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC))
	tag, claim := events.TagClaimed{Tag: 4097, Reason: events.TagOpened, Site: "s", Node: "n1"}.Encode(now)
	b := events.NewBatchBuilder(nil)
	b.Append(events.Entry{Before: []events.Position{0}, Event: events.Written{Image: 1, Offset: 4096, Data: bytes.Repeat([]byte{0xab}, 4096)}})
	b.Append(events.Entry{Event: events.Discarded{Image: 1, Offset: 0, Length: 1 << 20}})
	b.Append(events.Entry{Event: events.Zeroed{Image: 1, Offset: 0, Length: 512}, Version: events.At(4097, 1)})
	b.Append(events.Entry{Event: events.ImageCreated{Image: 2, Name: "disk", Size: 1 << 30, ObjectSize: 4 << 20}})
	b.Append(events.Entry{Event: events.ImageResized{Image: 2, Size: 2 << 30}})
	b.Append(events.Entry{Event: events.ImageRemoved{Image: 2}})
	b.Append(events.Entry{Event: events.OperationStarted{Intent: events.SnapshotsCreated{Name: "s", Group: true, First: 7, Images: []events.ImageID{1}}}})
	b.Append(events.Entry{Event: events.OperationFinished{Started: events.At(4097, 7), Failure: "exists"}})
	b.Append(events.Entry{Event: events.Flushed{}})
	b.Append(events.Entry{Part: events.Part{Index: 0, Count: 2}, Event: events.Written{Image: 1, Data: []byte{1}}})
	batch, _ := b.Seal(4097, claim, claim.Position, now)

	m := decodedJSON(t, string(tag))
	if m["kind"] != "tag" || m["event"].(map[string]any)["node"] != "n1" {
		t.Errorf("a tag is shown as %v", m)
	}
	raw, digits := decodedJSON(t, string(batch)), decodedJSON(t, hex.EncodeToString(batch)+"\n")
	shown, _ := json.Marshal(raw)
	if same, _ := json.Marshal(digits); !bytes.Equal(shown, same) {
		t.Errorf("raw and hexadecimal differ:\n%s\n%s", shown, same)
	}
	entries := raw["event"].(map[string]any)["entries"].([]any)
	for i, kind := range []string{"written", "discarded", "zeroed", "image_created", "image_resized", "image_removed", "operation_started", "operation_finished", "flushed", "written"} {
		if got := entries[i].(map[string]any)["kind"]; got != kind {
			t.Errorf("entry %d is shown as %v, want %s", i, got, kind)
		}
	}
	first := entries[0].(map[string]any)
	if first["length"] != 4096.0 || first["offset"] != 4096.0 || first["data_first"] != "abababababababababababababababab" || first["image"] != 1.0 {
		t.Errorf("a write is shown as %v", first)
	}
	if intent := entries[6].(map[string]any)["intent"].(map[string]any); intent["kind"] != "snapshots_created" || intent["group"] != true || intent["first"] != 7.0 {
		t.Errorf("an operation is shown as %v", entries[6])
	}
	if part := entries[9].(map[string]any)["part"].(map[string]any); part["index"] != 0.0 || part["count"] != 2.0 {
		t.Errorf("a part is shown as %v", entries[9])
	}
}

func TestDecodeRefusesWhatIsDamaged(t *testing.T) {
	tag, _ := events.TagClaimed{Tag: 1, Reason: events.TagOpened}.Encode(1)
	for name, payload := range map[string]string{
		"truncated": string(tag[:len(tag)-1]),
		"flipped":   string(append([]byte{tag[0], tag[1]}, append([]byte{}, bytes.ToUpper(tag[2:])...)...)),
		"hostile":   "\xdd\xff\xff\xff\xff",
		"huge":      string(make([]byte, payloadBytesMax+1)),
	} {
		if code, out, messages := tidemark(t, payload, "decode"); code == 0 || out != "" || messages == "" {
			t.Errorf("%s: exit code %d, %q, %q", name, code, out, messages)
		}
	}
}

func FuzzDecode(f *testing.F) {
	tag, claim := events.TagClaimed{Tag: 1, Reason: events.TagOpened}.Encode(1)
	b := events.NewBatchBuilder(nil)
	b.Append(events.Entry{Event: events.Written{Image: 1, Data: []byte("x")}})
	batch, _ := b.Seal(1, claim, 0, 1)
	fact, _ := events.Marshal(&events.PoolCreated{Pool: "p"})
	for _, seed := range [][]byte{tag, batch, fact, []byte("93"), nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeMessage(unhex(data))
		if err != nil {
			return
		}
		if _, err := json.Marshal(m); err != nil {
			t.Errorf("decoded, but not printable: %v", err)
		}
	})
}
