package main

import (
	"context"
	"errors"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
)

// journalStream is the stream that holds a directory's journal, as it was when it was
// looked at: what comes later is not read.
type journalStream struct {
	directory api.Directory
	name      string
	state     bus.State
	bus       *bus.Bus
	patience  time.Duration // how long no message may come
}

// journalOf looks for the journal of a directory. Whoever holds the directory is not asked.
func (s *client) journalOf(ctx context.Context, name events.DirectoryName, patience time.Duration) (journalStream, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d, err := call[api.Directory](ctx, s, api.DirectoryResolve, name)
	if err != nil {
		return journalStream{}, err
	}
	j := journalStream{directory: d, name: events.JournalStream(name, d.ID), bus: s.bus, patience: patience}
	if j.state, err = s.bus.State(ctx, j.name); errors.Is(err, bus.ErrNotFound) {
		return j, fault.New(fault.NotFound, "directory %s has no journal at this site", d.Name)
	}
	return j, err
}

// read gives f every message, in order. A [*bus.GapError] says that some are not there.
func (j journalStream) read(parent context.Context, f func(bus.Message) error) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	silence := time.AfterFunc(j.patience, cancel)
	defer silence.Stop()
	err := j.bus.ReadTo(ctx, j.name, j.state.First, j.state.Last, func(m bus.Message) error {
		silence.Reset(j.patience)
		return f(m)
	})
	if parent.Err() == nil && ctx.Err() != nil {
		return fault.New(fault.Timeout, "stream %s: its end did not come", j.name)
	}
	return err
}

// entries gives f every entry, which must all be readable.
func (j journalStream) entries(ctx context.Context, f func(b *events.Batch, i int) error) error {
	err := j.read(ctx, func(m bus.Message) error {
		message, err := events.DecodeJournal(m.Data)
		if err != nil {
			return fault.New(fault.Corrupt, "message %d of %s: %w; `tidemark journal inspect` looks for more", m.Sequence, j.name, err)
		}
		batch, ok := message.(*events.Batch)
		if !ok {
			return nil
		}
		for i := range batch.Entries {
			if err := f(batch, i); err != nil {
				return err
			}
		}
		return nil
	})
	var gap *bus.GapError
	if errors.As(err, &gap) {
		return fault.New(fault.NotReady, "%w: it may just have been cut; try again", err)
	}
	return err
}
