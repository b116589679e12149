package main

import (
	"context"
	"maps"
	"slices"

	"tidemark/cmd/tidemark/internal/journaltext"
	"tidemark/events"
)

// startedLine is the start of an operation, and the line that holds it.
type startedLine struct {
	number int
	line   journaltext.Line
	intent events.Event
}

// finishStarted adds the operations whose end the file does not hold, in the order of their
// starts: whoever had opened the journal at its end would have finished them.
func (i *importer) finishStarted(ctx context.Context) error {
	for _, at := range slices.Sorted(maps.Keys(i.started)) {
		o := i.started[at]
		one, err := importOfLine(o.number, o.line, o.intent)
		if err == nil {
			i.add(one)
			continue
		}
		if err := i.bad(ctx, badLine(o.number, err)); err != nil {
			return err
		}
	}
	return nil
}
