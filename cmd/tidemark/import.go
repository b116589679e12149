package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"tidemark/cmd/tidemark/internal/journaltext"
	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

const (
	// importBytesMax is where a request of an import is sent, counted as JSON: with one
	// entry of full size more it stays within what the bus carries.
	importBytesMax = 512 << 10
	// runBytesMax bounds the parts of one change that are kept until it is complete:
	// more than any request of a client makes.
	runBytesMax = 128 << 20
)

func newJournalImport(c *cli) *cobra.Command {
	var verbose, goOn bool
	cmd := &cobra.Command{
		Use: "import POOL/DIR FILE|-", Short: "Execute again what an exported journal holds", Args: takes(2, 2),
		Long: `Executes the entries of an export in a directory, in order, under new numbers: on copies
of the images as they were when the exported journal began, it makes them what they were
at its end. Images and snapshots go by their names. Operations that had failed are left
out, and so are writes that were broken off. One that was started and had not ended when
the export ends is carried out last, as the journal's owner would.

It stops at the first bad line; what came before stays imported. With --no-error it goes
on behind a bad line. An import that skipped a line exits with 1 all the same.`,
		RunE: c.action(func(ctx context.Context, args []string) error {
			name, err := parseDirectory(args[0])
			if err != nil {
				return err
			}
			in := c.in
			if args[1] != "-" {
				f, err := os.Open(args[1])
				if err != nil {
					return fault.New(fault.Usage, "%w", err)
				}
				defer func() { _ = f.Close() }() // only read
				in = f
			}
			s := c.client()
			defer s.close()
			i := &importer{send: c.importSender(s, name), goOn: goOn, told: c.say, started: map[events.Position]startedLine{}}
			i.verbose = verbose
			err = i.all(ctx, in)
			if err == nil || i.count.Skipped > 0 {
				err = errors.Join(c.show(i.count, i.count.rows), err)
			}
			return err
		}),
	}
	cmd.Flags().BoolVar(&verbose, "verbose", false, "tell every line on stderr")
	cmd.Flags().BoolVar(&goOn, "no-error", false, "skip bad lines and go on")
	return cmd
}

// importSender sends the requests of an import, each with --timeout of its own.
func (c *cli) importSender(s *client, name events.DirectoryName) func(context.Context, []api.ImportEntry) (api.JournalImportReply, error) {
	return func(ctx context.Context, entries []api.ImportEntry) (api.JournalImportReply, error) {
		ctx, cancel := context.WithTimeout(ctx, c.timeout)
		defer cancel()
		return holder[api.JournalImportReply](ctx, s, name, api.JournalImport, api.JournalImportRequest{Entries: entries})
	}
}

// imported is what an import prints.
type imported struct {
	Executed uint64 `json:"executed"`
	Ignored  uint64 `json:"ignored"`  // what they make true was so already
	LeftOut  uint64 `json:"left_out"` // entries that change nothing: failed or broken off
	Skipped  uint64 `json:"skipped"`  // bad lines
}

func (n imported) rows(t *table) {
	t.row(fmt.Sprintf("%d entries executed, %d had no effect, %d lines skipped", n.Executed, n.Ignored, n.Skipped))
}

// importer turns the lines of an export into requests.
type importer struct {
	send    func(context.Context, []api.ImportEntry) (api.JournalImportReply, error)
	goOn    bool // behind a bad line
	verbose bool
	told    func(format string, args ...any)
	count   imported

	started map[events.Position]startedLine // of operations whose end has not come
	run     openRun
	batch   []importLine
	bytes   int // of batch, as JSON
}

// importLine is an event that is to be executed, and the line that holds it.
type importLine struct {
	number int
	entry  api.ImportEntry
}

// bytes says how much of a request the line takes at most.
func (l importLine) bytes() int {
	const around = 128 // keys and punctuation
	n := around + base64.StdEncoding.EncodedLen(len(l.entry.Entry)) + len(l.entry.Image) + len(l.entry.Snapshot)
	for _, name := range l.entry.Images {
		n += len(name) + 8
	}
	return n
}

// openRun gathers the parts of one change until the last one has come.
type openRun struct {
	last  events.Part
	lines []importLine
	bytes int
}

func badLine(number int, err error) error {
	return fault.New(fault.Corrupt, "line %d: %w", number, err)
}

// all imports a file.
func (i *importer) all(ctx context.Context, in io.Reader) error {
	lines := journaltext.NewReader(in)
	for {
		line, err := lines.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			if i.verbose {
				i.told("line %d: %s %s %s", lines.Line(), line.Position, journaltext.Kind(line.Entry.Event), line.Image)
			}
			err = i.line(lines.Line(), line)
		}
		switch {
		case err == nil && i.bytes >= importBytesMax:
			err = i.flush(ctx)
		case errors.Is(err, journaltext.ErrLine), errors.Is(err, errLine):
			i.breakRun()
			err = i.bad(ctx, badLine(lines.Line(), err))
		case err != nil:
			return fmt.Errorf("read the export: %w", err)
		}
		if err != nil {
			return err
		}
	}
	i.breakRun()
	if err := i.finishStarted(ctx); err != nil {
		return err
	}
	if err := i.flush(ctx); err != nil {
		return err
	}
	if i.count.Skipped > 0 {
		return fault.New(fault.Corrupt, "%d lines were skipped", i.count.Skipped)
	}
	return nil
}

// bad skips a bad line, or ends the import behind what came before it.
func (i *importer) bad(ctx context.Context, err error) error {
	if !i.goOn {
		if earlier := i.flush(ctx); earlier != nil {
			return earlier
		}
		return err
	}
	i.count.Skipped++
	i.told("skipped: %v", err)
	return nil
}

var errLine = errors.New("the line cannot be imported")

// line takes in the entry of a line.
func (i *importer) line(number int, l journaltext.Line) error {
	fact := l.Entry.Event
	switch e := fact.(type) {
	case events.OperationStarted:
		i.started[l.Position] = startedLine{number, l, e.Intent}
		fact = nil
	case events.OperationFinished:
		fact = i.started[e.Started].intent
		delete(i.started, e.Started)
		if e.Failure != "" {
			fact = nil
		}
		if fact == nil {
			i.count.LeftOut++
		}
	case events.Flushed:
		fact = nil
	}
	if fact == nil {
		i.breakRun()
		return nil
	}
	one, err := importOfLine(number, l, fact)
	if err != nil {
		return err
	}
	return i.place(l.Entry.Part, one)
}

// importOfLine returns a fact or a change with the names that its line gives it.
func importOfLine(number int, l journaltext.Line, fact events.Event) (importLine, error) {
	if !l.Complete(fact) {
		return importLine{}, fmt.Errorf("%w: it does not name its image or snapshot", errLine)
	}
	return importLine{number, api.ImportEntry{
		Image: l.Image, Snapshot: l.Snapshot, Images: l.Images, Entry: events.EncodeEntry(events.Entry{Event: fact}),
	}}, nil
}

// place puts a line into the batch, or keeps it until the change that it is a part of is
// complete.
func (i *importer) place(p events.Part, l importLine) error {
	switch {
	case p.Count == 0:
		i.breakRun()
		i.add(l)
		return nil
	case p.Index == 0:
		i.breakRun()
	case !p.Continues(i.run.last):
		i.breakRun()
		i.count.LeftOut++
		return nil
	}
	i.run.last = p
	i.run.lines = append(i.run.lines, l)
	if i.run.bytes += l.bytes(); i.run.bytes > runBytesMax {
		return fmt.Errorf("%w: the parts of one change take more than %d MiB", errLine, runBytesMax>>20)
	}
	if p.Last() {
		i.add(i.run.lines...)
		i.run = openRun{}
	}
	return nil
}

// breakRun forgets a change that is not complete: it never came to be.
func (i *importer) breakRun() {
	i.count.LeftOut += uint64(len(i.run.lines))
	i.run = openRun{}
}

func (i *importer) add(lines ...importLine) {
	for _, l := range lines {
		i.batch = append(i.batch, l)
		i.bytes += l.bytes()
	}
}

// flush sends what is gathered, in requests of bounded size.
func (i *importer) flush(ctx context.Context) error {
	for len(i.batch) > 0 {
		var entries []api.ImportEntry
		for n := 0; len(entries) < len(i.batch) && n < importBytesMax; n += i.batch[len(entries)-1].bytes() {
			entries = append(entries, i.batch[len(entries)].entry)
		}
		reply, err := i.send(ctx, entries)
		if err != nil {
			return fmt.Errorf("lines %d to %d: %w", i.batch[0].number, i.batch[len(entries)-1].number, err)
		}
		i.count.Executed += reply.Executed
		i.count.Ignored += reply.Ignored
		done := reply.Executed + reply.Ignored
		all, sent := i.batch, i.batch[:len(entries)]
		i.batch = all[len(entries):]
		if reply.Refused == nil && done == uint64(len(sent)) {
			continue
		}
		if reply.Refused == nil || done >= uint64(len(sent)) {
			return fault.New(fault.Corrupt, "lines %d to %d: the answer contradicts itself", sent[0].number, sent[len(sent)-1].number)
		}
		refused := badLine(sent[done].number, errors.New(reply.Refused.Message))
		if !i.goOn {
			return refused
		}
		i.count.Skipped++
		i.told("skipped: %v", refused)
		i.batch = all[done+1:]
	}
	i.batch, i.bytes = nil, 0
	return nil
}
