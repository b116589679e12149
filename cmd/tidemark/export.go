package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"tidemark/cmd/tidemark/internal/journaltext"
	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

func newJournalExport(c *cli) *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use: "export POOL/DIR FILE|-", Short: "Write a journal to a file", Args: takes(2, 2),
		Long: `Writes every entry that the journal of a directory holds to a file that does not exist
yet, or to standard output. Lines that begin with # are comments; every other one is the
length of a JSON document, a space, the document and a newline. Data is in base64.
Images and snapshots are given the names that they had at the time of each entry.`,
		RunE: c.action(func(ctx context.Context, args []string) error {
			name, err := parseDirectory(args[0])
			if err != nil {
				return err
			}
			if _, err := os.Lstat(args[1]); args[1] != "-" && err == nil {
				return fault.New(fault.Exists, "file %s exists: export to another name", args[1])
			}
			s := c.client()
			defer s.close()
			e := &exporter{cli: c, client: s, verbose: verbose}
			if err := e.prepare(ctx, name); err != nil {
				return err
			}
			return e.to(ctx, args[1])
		}),
	}
	cmd.Flags().BoolVar(&verbose, "verbose", false, "tell every entry on stderr")
	return cmd
}

// exporter writes one journal.
type exporter struct {
	cli     *cli
	client  *client
	verbose bool

	journal journalStream
	names   *journaltext.Names // at the entry that is written next
	count   exported
}

// exported is what an export prints.
type exported struct {
	Directory string `json:"directory"`
	File      string `json:"file"`
	Entries   uint64 `json:"entries"`
	Bytes     uint64 `json:"bytes"`
	// Unnamed counts the entries about images or snapshots that are gone, and whose
	// names the journal no longer holds.
	Unnamed uint64 `json:"unnamed"`
}

// prepare finds the journal, and what everything was called where it begins: from what it
// is called now, back over all that the journal says. The names are asked for first; what
// happens between that and the look at the journal is undone all the same.
func (e *exporter) prepare(ctx context.Context, name events.DirectoryName) error {
	asking, cancel := context.WithTimeout(ctx, e.cli.timeout)
	defer cancel()
	images, err := holder[[]api.Image](asking, e.client, name, api.ImageList, api.Nothing{})
	if err != nil {
		return err
	}
	snapshots, err := holder[[]api.Snapshot](asking, e.client, name, api.SnapList, api.ImageRequest{})
	if err != nil {
		return err
	}
	if e.journal, err = e.client.journalOf(ctx, name, e.cli.timeout); err != nil {
		return err
	}
	e.names = journaltext.NewNames()
	for _, image := range images {
		e.names.AddImage(image.ID, image.Image)
		for _, name := range image.Names {
			e.names.AddImage(image.ID, name)
		}
	}
	for _, snapshot := range snapshots {
		e.names.AddSnapshot(snapshot.ID, snapshot.Snapshot)
	}
	facts, err := e.facts(ctx)
	for i := len(facts) - 1; i >= 0; i-- {
		e.names.Undo(facts[i])
	}
	return err
}

// facts returns what the journal's operations made true, in order.
func (e *exporter) facts(ctx context.Context) ([]events.Event, error) {
	var facts []events.Event
	passed := journaltext.NewNames()
	err := e.journal.entries(ctx, func(b *events.Batch, i int) error {
		event := b.Entries[i].Event
		if _, _, _, data := events.Range(event); data {
			return nil
		}
		if fact := passed.Pass(b.Position(i), event); fact != nil {
			facts = append(facts, fact)
		}
		return nil
	})
	return facts, err
}

// to writes the export to a file, or to standard output.
func (e *exporter) to(ctx context.Context, file string) error {
	e.count.Directory, e.count.File = e.journal.directory.Name, file
	if file == "-" {
		err := e.write(ctx, e.cli.out)
		if err == nil {
			e.warn()
		}
		return err
	}
	if err := createWhole(file, func(w io.Writer) error { return e.write(ctx, w) }); err != nil {
		return err
	}
	e.warn()
	return e.cli.show(e.count, func(t *table) {
		t.row(fmt.Sprintf("%d entries exported to %s", e.count.Entries, file))
	})
}

func (e *exporter) warn() {
	if n := e.count.Unnamed; n > 0 {
		e.cli.say("%d entries are about images or snapshots that are gone, and whose names the journal no longer holds: an import refuses them", n)
	}
}

func (e *exporter) write(ctx context.Context, w io.Writer) error {
	out := bufio.NewWriterSize(w, 1<<20)
	d := e.journal.directory
	_, err := fmt.Fprintf(out, "# tidemark journal of %s, directory %s, as of %s\n# length of the document, a space, an entry\n",
		d.Name, d.ID, time.Now().UTC().Format(time.RFC3339))
	if err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	var line []byte
	err = e.journal.entries(ctx, func(b *events.Batch, i int) error {
		var err error
		if line, err = e.line(line[:0], b, i); err != nil {
			return err
		}
		e.count.Entries++
		e.count.Bytes += uint64(len(line))
		if _, err := out.Write(line); err != nil {
			return fmt.Errorf("write the export: %w", err)
		}
		return nil
	})
	if err == nil {
		if err = out.Flush(); err != nil {
			err = fmt.Errorf("write the export: %w", err)
		}
	}
	return err
}

// line appends the line of an entry to buf.
func (e *exporter) line(buf []byte, b *events.Batch, i int) ([]byte, error) {
	entry, at := b.Entries[i], b.Position(i)
	l := journaltext.Line{Position: at, Time: b.End.Time, Entry: entry, Named: e.names.Of(entry.Event)}
	if fact := e.names.Becomes(entry.Event); fact != nil && !l.Complete(fact) {
		e.count.Unnamed++
	}
	e.names.Pass(at, entry.Event)
	if e.verbose {
		e.cli.say("%s %s %s", at, journaltext.Kind(entry.Event), l.Image)
	}
	return l.Append(buf)
}

// createWhole creates a file with what write writes, or none at all: it takes its name
// when it is complete, and never that of another file.
func createWhole(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fault.New(fault.Usage, "%w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // under its first name
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return fault.New(fault.Exists, "file %s exists: export to another name", path)
	} else if err != nil {
		return fmt.Errorf("give the export its name: %w", err)
	}
	return nil
}
