package journal

import (
	"context"
	"time"

	"tidemark/events"
)

// roomAge is how often a journal that is written to is asked how full it is.
const roomAge = 5 * time.Second

// roomWatch tells listeners when a journal is nearly full, and when it is not any more.
type roomWatch struct {
	life    *life
	filling bool
	seen    events.Position // the head when the journal was asked last
}

// run looks now and then until ctx ends.
func (r *roomWatch) run(ctx context.Context) error {
	d := r.life.directory
	r.filling = d.lasts(ctx, "", events.JournalFilling)
	tick := time.NewTicker(roomAge)
	defer tick.Stop()
	for {
		if err := r.look(ctx); err != nil && ctx.Err() == nil {
			d.log.Debug("how full the journal is could not be asked", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *roomWatch) look(ctx context.Context) error {
	head := r.life.tail.Marks().Logged.Position
	if head == r.seen && !r.filling {
		return nil // it has not grown
	}
	state, err := r.life.log.State(ctx)
	if err != nil {
		return err
	}
	r.seen = head
	was := r.filling
	r.filling = nearlyFull(state.Bytes, state.MaxBytes, was)
	switch d := r.life.directory; {
	case r.filling && !was:
		d.log.Warn("journal is nearly full", "bytes", state.Bytes, "bound", state.MaxBytes)
		d.note(events.JournalFilling, r.life.tail.Marks().Logged, mebibytes(state.Bytes)+" of "+mebibytes(state.MaxBytes))
	case was && !r.filling:
		d.note(events.JournalDrained, r.life.tail.Marks().Logged, mebibytes(state.Bytes)+" of "+mebibytes(state.MaxBytes))
	}
	return nil
}

// nearlyFull reports whether a journal is nearly full: from four fifths of its bound on, and
// until it is below seven tenths again.
func nearlyFull(bytes, bound uint64, was bool) bool {
	const begins, ends = 80, 70 // percent
	percent := uint64(begins)
	if was {
		percent = ends
	}
	return bound > 0 && bytes >= bound/100*percent
}
