package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"tidemark/cmd/tidemark/internal/journaltext"
	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
)

func newJournalInspect(c *cli) *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use: "inspect POOL/DIR", Short: "Read all of a journal and check it", Args: takes(1, 1),
		Long: `Reads every message that the journal of a directory holds: that each is whole, that it
follows the one before in number and in chain, and that no part of a large write stands
alone. Each error is told on stderr; the exit code is 1 if there are any.`,
		RunE: c.action(func(ctx context.Context, args []string) error {
			name, err := parseDirectory(args[0])
			if err != nil {
				return err
			}
			s := c.client()
			defer s.close()
			j, err := s.journalOf(ctx, name, c.timeout)
			if err != nil {
				return err
			}
			found := &inspection{}
			if verbose {
				found.shown = func(e journaltext.Shown) error {
					if c.output == outputJSON {
						return writeLine(c.messages, e)
					}
					return writeLine(c.out, e)
				}
			}
			if err := found.all(ctx, j); err != nil {
				return err
			}
			return c.showInspection(name, &found.inspected)
		}),
	}
	cmd.Flags().BoolVar(&verbose, "verbose", false, "print every entry as a line of JSON, on stderr with -o json")
	return cmd
}

// showInspection prints what was found; errors in the journal make the command fail.
func (c *cli) showInspection(name events.DirectoryName, found *inspected) error {
	for _, p := range found.Problems {
		c.say("message %d: %s", p.Sequence, p.Error)
	}
	found.Problems = list(found.Problems)
	err := c.show(found, func(t *table) {
		t.row(fmt.Sprintf("%d entries inspected, %d errors", found.Entries, found.Errors))
	})
	if err == nil && found.Errors > 0 {
		err = fault.New(fault.Corrupt, "journal of %s: %d errors", name, found.Errors)
	}
	return err
}

// problemsMax bounds the errors that are kept; all of them are counted.
const problemsMax = 1000

// inspected is what an inspection has found.
type inspected struct {
	Messages uint64          `json:"messages"`
	Tags     uint64          `json:"tags"`
	Entries  uint64          `json:"entries"`
	Void     uint64          `json:"void_entries"` // parts of changes that were broken off
	Errors   uint64          `json:"errors"`
	First    events.Position `json:"first"`
	Last     events.Position `json:"last"`
	Problems []problem       `json:"problems"`
}

type problem struct {
	Sequence uint64 `json:"sequence"`
	Error    string `json:"error"`
}

// inspection checks a journal, message by message.
type inspection struct {
	inspected
	shown func(journaltext.Shown) error // nil: entries are not shown

	// known is set while mark is where the next message must follow: not at the
	// beginning, nor behind what could not be read.
	known bool
	mark  events.Mark
	open  events.Part // the last part of a change that is not complete; zero for none
}

// all inspects a stream; what is missing in it is an error of the journal.
func (n *inspection) all(ctx context.Context, j journalStream) error {
	for {
		err := j.read(ctx, func(m bus.Message) error { return n.message(m.Sequence, m.Data) })
		var gap *bus.GapError
		if !errors.As(err, &gap) || gap.Got <= j.state.First {
			return err
		}
		now, err := j.bus.State(ctx, j.name)
		if err != nil {
			return err
		}
		if now.First < gap.Got { // otherwise it was cut while it was read
			n.fail(gap.Want, "the messages up to %d are missing", gap.Got-1)
		}
		n.known, n.open, j.state.First = false, events.Part{}, gap.Got
	}
}

func (n *inspection) fail(sequence uint64, format string, args ...any) {
	n.Errors++
	if len(n.Problems) < problemsMax {
		n.Problems = append(n.Problems, problem{sequence, fmt.Sprintf(format, args...)})
	}
}

// message checks the next one. Its error is one of showing entries.
func (n *inspection) message(sequence uint64, data []byte) error {
	n.Messages++
	m, err := events.DecodeJournal(data)
	if err != nil {
		n.fail(sequence, "%v", err)
		n.known, n.open = false, events.Part{}
		return nil
	}
	position, chain := m.Continues()
	if n.known && !m.Follows(n.mark) {
		n.fail(sequence, "it follows %s with chain %s, but the message before ends at %s with chain %s",
			position, chain, n.mark.Position, n.mark.Chain)
	}
	switch m := m.(type) {
	case *events.TagClaimed:
		n.Tags++
		n.broken()
	case *events.Batch:
		err = n.batch(sequence, m)
	}
	n.known, n.mark, n.Last = true, m.Ends(), m.Ends().Position
	return err
}

func (n *inspection) batch(sequence uint64, b *events.Batch) error {
	for i, e := range b.Entries {
		if n.Entries++; n.First == 0 {
			n.First = b.Position(i)
		}
		n.part(sequence, b.Position(i), e.Part, n.known || i > 0)
		if n.shown != nil {
			if err := n.shown(journaltext.Shown{Position: b.Position(i), Entry: e}); err != nil {
				return err
			}
		}
	}
	return nil
}

// part checks that an entry which is a part follows the one before it. It may not where
// it is not known what was before.
func (n *inspection) part(sequence uint64, at events.Position, p events.Part, known bool) {
	if !p.Continues(n.open) {
		n.broken()
	}
	if p.Index > 0 && n.open == (events.Part{}) && known {
		n.fail(sequence, "entry %s is part %d of %d without those before it", at, p.Index, p.Count)
	}
	if n.open = p; p.Last() {
		n.open = events.Part{}
	}
}

// broken notes that a change of several entries will not be completed.
func (n *inspection) broken() {
	if n.open.Count != 0 {
		n.Void += uint64(n.open.Index) + 1
	}
	n.open = events.Part{}
}
