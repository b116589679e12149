package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"unicode"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/fault"
)

// payloadBytesMax is more than any payload takes, twice over for hexadecimal digits.
const payloadBytesMax = 4 * events.MessageBytesMax

// firstBytes is how much of written data is shown.
const firstBytes = 16

func newDecode(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "decode",
		Short: "Turn one message of a stream, on standard input, into JSON",
		Long: `Reads one message of any stream, as raw bytes or hexadecimal digits, and prints it
as JSON. With the nats command: nats stream view POOLS --translate 'tidemark decode'`,
		Args: takes(0, 0),
		RunE: c.action(func(context.Context, []string) error {
			data, err := readLimited(c.in, payloadBytesMax)
			if err != nil {
				return err
			}
			m, err := decodeMessage(unhex(data))
			if err != nil {
				return fault.New(fault.Corrupt, "%w", err)
			}
			return writeLine(c.out, m)
		}),
	}
}

// unhex returns the bytes that hexadecimal digits stand for, and anything else as it
// is. No message begins with the byte of a digit, so there is no doubt.
func unhex(data []byte) []byte {
	digits := bytes.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, data)
	decoded := make([]byte, hex.DecodedLen(len(digits)))
	if _, err := hex.Decode(decoded, digits); err != nil || len(digits) == 0 {
		return data
	}
	return decoded
}

// decoded is a message as JSON shows it.
type decoded struct {
	Kind  string `json:"kind"`
	Event any    `json:"event"`
}

// decodeMessage reads a fact or a journal message.
func decodeMessage(data []byte) (decoded, error) {
	journal, err := events.DecodeJournal(data)
	if err == nil {
		switch m := journal.(type) {
		case *events.Batch:
			return decoded{"batch", shownBatchOf(m)}, nil
		case *events.TagClaimed:
			return decoded{"tag", shownTagOf(m)}, nil
		}
	}
	fact, factErr := events.Unmarshal(data)
	if factErr == nil {
		return decoded{fact.Kind(), fact}, nil
	}
	if looksLikeJournal(data) {
		return decoded{}, fmt.Errorf("journal message: %w", err)
	}
	return decoded{}, fmt.Errorf("message: %w", factErr)
}

// looksLikeJournal tells which of two decoders' errors is of use.
func looksLikeJournal(data []byte) bool {
	head := data[:min(len(data), 16)]
	return bytes.Contains(head, []byte("batch")) || bytes.Contains(head, []byte("\xa3tag"))
}

func writeLine(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}

type shownBatch struct {
	Tag     events.Tag      `json:"tag"`
	First   uint32          `json:"first"`
	Count   int             `json:"count"`
	Before  events.Chain    `json:"chain_before"`
	Safe    events.Position `json:"safe"`
	End     events.Mark     `json:"end"`
	Entries []shownEntry    `json:"entries"`
}

type shownTag struct {
	Tag             events.Tag       `json:"tag"`
	Reason          events.TagReason `json:"reason"`
	Site            string           `json:"site"`
	Node            string           `json:"node"`
	Incarnation     string           `json:"incarnation"`
	Predecessor     events.Mark      `json:"predecessor"`
	PredecessorSite string           `json:"predecessor_site"`
	Mark            events.Mark      `json:"mark"`
}

// shownEntry is one entry of a batch; the fields that its kind does not have are left out.
type shownEntry struct {
	Position   events.Position   `json:"position"`
	Version    *events.Position  `json:"version,omitempty"` // of an entry that recovery replayed
	Before     []events.Position `json:"before"`
	Kind       string            `json:"kind"`
	Image      events.ImageID    `json:"image"`
	Offset     *uint64           `json:"offset,omitempty"`
	Length     *uint64           `json:"length,omitempty"`
	DataFirst  string            `json:"data_first,omitempty"` // hexadecimal
	Name       string            `json:"name,omitempty"`
	Size       *uint64           `json:"size,omitempty"`
	ObjectSize *uint64           `json:"object_size,omitempty"`
}

func shownTagOf(t *events.TagClaimed) shownTag {
	return shownTag{t.Tag, t.Reason, t.Site, t.Node, t.Incarnation, t.Predecessor, t.PredecessorSite, t.Mark}
}

func shownBatchOf(b *events.Batch) shownBatch {
	shown := shownBatch{
		Tag: b.Tag, First: b.First, Count: len(b.Entries), Before: b.Before, Safe: b.Safe, End: b.End,
		Entries: make([]shownEntry, 0, len(b.Entries)),
	}
	for i, e := range b.Entries {
		one := shownEntryOf(e)
		one.Position = b.Position(i)
		shown.Entries = append(shown.Entries, one)
	}
	return shown
}

func shownEntryOf(e events.Entry) shownEntry {
	s := shownEntry{Before: list(e.Before)}
	if e.Version != 0 {
		s.Version = &e.Version
	}
	span := func(kind string, image events.ImageID, offset, length uint64) {
		s.Kind, s.Image, s.Offset, s.Length = kind, image, &offset, &length
	}
	switch ev := e.Event.(type) {
	case events.Written:
		span("written", ev.Image, ev.Offset, uint64(len(ev.Data)))
		s.DataFirst = hex.EncodeToString(ev.Data[:min(len(ev.Data), firstBytes)])
	case events.Discarded:
		span("discarded", ev.Image, ev.Offset, ev.Length)
	case events.Zeroed:
		span("zeroed", ev.Image, ev.Offset, ev.Length)
	case events.ImageCreated:
		s.Kind, s.Image, s.Name, s.Size, s.ObjectSize = "image_created", ev.Image, ev.Name, &ev.Size, &ev.ObjectSize
	case events.ImageResized:
		s.Kind, s.Image, s.Size = "image_resized", ev.Image, &ev.Size
	case events.ImageRemoved:
		s.Kind, s.Image = "image_removed", ev.Image
	default:
		s.Kind = fmt.Sprintf("%T", ev)
	}
	return s
}
