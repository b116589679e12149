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

	"tidemark/cmd/tidemark/internal/journaltext"
	"tidemark/events"
	"tidemark/internal/fault"
)

// payloadBytesMax is more than any payload takes, twice over for hexadecimal digits.
const payloadBytesMax = 4 * events.MessageBytesMax

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
	Tag     events.Tag          `json:"tag"`
	First   uint32              `json:"first"`
	Count   int                 `json:"count"`
	Before  events.Chain        `json:"chain_before"`
	Safe    events.Position     `json:"safe"`
	End     events.Mark         `json:"end"`
	Entries []journaltext.Shown `json:"entries"`
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

func shownTagOf(t *events.TagClaimed) shownTag {
	return shownTag{t.Tag, t.Reason, t.Site, t.Node, t.Incarnation, t.Predecessor, t.PredecessorSite, t.Mark}
}

func shownBatchOf(b *events.Batch) shownBatch {
	shown := shownBatch{
		Tag: b.Tag, First: b.First, Count: len(b.Entries), Before: b.Before, Safe: b.Safe, End: b.End,
		Entries: make([]journaltext.Shown, 0, len(b.Entries)),
	}
	for i, e := range b.Entries {
		shown.Entries = append(shown.Entries, journaltext.Shown{Position: b.Position(i), Entry: e})
	}
	return shown
}
