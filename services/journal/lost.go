package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
	"tidemark/internal/tail"
)

// giveUp is a request to go on without what the journal has lost.
type giveUp struct {
	ctx    context.Context //nolint:containedctx // of the request
	answer chan error
}

// rest waits until a directory whose life ended with why is to be opened again, and
// reports whether that is behind a journal that an operator has given up meanwhile. Only
// one that has lost its tail can be: whatever else is wrong, the journal explains it.
func (d *directory) rest(ctx context.Context, wait time.Duration, why error) (reset bool) {
	if !errors.Is(why, tail.ErrLostTail) {
		pause(ctx, wait)
		return false
	}
	asked := make(chan giveUp)
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	stop, err := api.Serve(ctx, d.service.deps.Bus.Conn(), d.log,
		api.On(api.HolderSubject(d.id, api.JournalReset), func(ctx context.Context, _ api.Nothing) (api.Nothing, error) {
			return api.Nothing{}, ask(ctx, asked)
		}))
	if err != nil {
		d.log.Warn("a reset of the journal cannot be asked for", "error", err)
		pause(ctx, wait)
		return false
	}
	defer stop()
	for {
		select {
		case r := <-asked:
			err := d.giveUpLost(r.ctx)
			r.answer <- err
			if err == nil {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
}

// ask hands a request over and waits for its answer.
func ask(ctx context.Context, asked chan<- giveUp) error {
	r := giveUp{ctx, make(chan error, 1)}
	select {
	case asked <- r:
		return <-r.answer
	case <-ctx.Done():
		return fault.New(fault.NotReady, "the directory is being opened: %w", ctx.Err())
	}
}

// giveUpLost drops what is left of a journal that has lost its tail, with its clients, and
// makes the copy here go on from its last checkpoint. Its files may hold some of what was
// written behind that, as a disk does after power loss. A crash in between leaves a
// journal that has lost even more, and the copy as it was: it can be asked for again.
func (d *directory) giveUpLost(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("reset the journal of %s: %w", d.name, err)
		}
	}()
	deps := d.service.deps
	r, err := replica.Open(deps.FS, deps.Node.ReplicaDir(d.id))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	log, err := d.openLog(ctx, r)
	if err != nil {
		return err
	}
	if err := d.disconnectAll(ctx); err != nil {
		return err
	}
	last, err := emptied(ctx, log)
	if err != nil {
		return err
	}
	noted, _ := r.NotedSafe()
	if err := r.ContinueBehind(last); err != nil {
		return err
	}
	mark, _ := r.Committed()
	d.log.Warn("the lost part of the journal was given up", "position", mark.Position.String())
	d.note(events.JournalReset, mark, fmt.Sprintf("what was written behind %v was given up; the journal had been safe up to %v", mark.Position, noted.Position))
	return nil
}

// emptied drops all messages of a log, and returns the sequence behind which it goes on.
func emptied(ctx context.Context, log *bus.Log) (uint64, error) {
	state, err := log.State(ctx)
	if err != nil {
		return 0, err
	}
	if err := log.Trim(ctx, state.Last+1); err != nil {
		return 0, err
	}
	return state.Last, nil
}

// disconnectAll makes the journal wait for no client but the copy here.
func (d *directory) disconnectAll(ctx context.Context) error {
	_, err := d.service.clients.Disconnect(ctx, d.service.deps.Bus, d.id, "")
	if coded := (*fault.Error)(nil); errors.As(err, &coded) && coded.Code == fault.NotFound {
		return nil // there is none
	}
	return err
}
