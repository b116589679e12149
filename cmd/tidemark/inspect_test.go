package main

import (
	"bytes"
	"testing"

	"tidemark/events"
)

// journalMessages returns a claim and batches of entries behind it.
func journalMessages(t *testing.T, batches ...[]events.Entry) [][]byte {
	t.Helper()
	claim, mark := events.TagClaimed{Tag: 4097, Reason: events.TagOpened}.Encode(1)
	all := [][]byte{claim}
	for _, entries := range batches {
		b := events.NewBatchBuilder(nil)
		for _, e := range entries {
			b.Append(e)
		}
		var message []byte
		message, mark = b.Seal(4097, mark, mark.Position, 2)
		all = append(all, bytes.Clone(message))
	}
	return all
}

func inspect(t *testing.T, messages [][]byte) inspected {
	t.Helper()
	n := &inspection{}
	for i, m := range messages {
		if err := n.message(uint64(i+1), m); err != nil {
			t.Fatal(err)
		}
	}
	return n.inspected
}

func TestInspectionFindsWhatIsWrong(t *testing.T) {
	sound := journalMessages(t, []events.Entry{write(0, 9), write(1, 9)}, []events.Entry{write(2, 9)}, []events.Entry{write(3, 9)})
	tag, _ := events.TagClaimed{Tag: 8193, Reason: events.TagOpened}.Encode(1)
	flipped := bytes.Clone(sound[2])
	flipped[len(flipped)-12] ^= 1
	for name, c := range map[string]struct {
		messages [][]byte
		entries  uint64
		errors   uint64
		void     uint64
	}{
		"journal 192: a sound one": {sound, 4, 0, 0},
		"cut at its head":          {sound[2:], 2, 0, 0},
		"nothing":                  {nil, 0, 0, 0},
		"a flipped bit":            {[][]byte{sound[0], sound[1], flipped, sound[3]}, 3, 1, 0},
		"a truncated message":      {[][]byte{sound[0], sound[1][:70], sound[2]}, 1, 1, 0},
		"an empty message":         {[][]byte{sound[0], {}, sound[1]}, 2, 1, 0},
		"a message is missing":     {[][]byte{sound[0], sound[1], sound[3]}, 3, 1, 0},
		"two are exchanged":        {[][]byte{sound[0], sound[2], sound[1], sound[3]}, 4, 3, 0},
		"one is there twice":       {[][]byte{sound[0], sound[1], sound[1]}, 4, 1, 0},
		"another history's tag":    {append(append([][]byte{}, sound...), tag), 4, 1, 0},
		"a run": {journalMessages(t, []events.Entry{partOf(write(0, 1), 0, 3), partOf(write(1, 1), 1, 3)},
			[]events.Entry{partOf(write(2, 1), 2, 3), write(3, 1)}), 4, 0, 0},
		"a run that was broken off": {journalMessages(t, []events.Entry{partOf(write(0, 1), 0, 3), partOf(write(1, 1), 1, 3)},
			[]events.Entry{write(2, 1)}), 3, 0, 2},
		"a part that does not go on": {journalMessages(t, []events.Entry{write(0, 1), partOf(write(1, 1), 1, 3)}), 2, 1, 0},
	} {
		got := inspect(t, c.messages)
		if got.Entries != c.entries || got.Errors != c.errors || got.Void != c.void || uint64(len(got.Problems)) != c.errors || got.Messages != uint64(len(c.messages)) {
			t.Errorf("%s: %+v, want %d entries, %d errors, %d void", name, got, c.entries, c.errors, c.void)
		}
	}
}
