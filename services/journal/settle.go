package journal

import (
	"context"
	"errors"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
)

// unsettled reports whether an operation was started and needs a finish that says why it
// failed. One that ended with its writer is settled by the next opening.
func (o *operations) unsettled(started events.Position, err error) bool {
	return started != 0 && err != nil && o.writer.open()
}

// concede says that an operation failed, if one did, before anything is logged that comes
// later: who is told so and goes on must not find it done after a restart.
func (o *operations) concede(started events.Position, err error) {
	ending := o.ctx.Err() != nil && !errors.Is(err, bus.ErrFull)
	if o.unsettled(started, err) && !ending {
		o.writer.owe(failure(started, err))
	}
}

// abandon says that an operation failed, and returns when that is safe. A full log takes
// it when it has room.
func (o *operations) abandon(started events.Position, cause error) {
	for o.ctx.Err() == nil {
		if _, err := o.writer.logSafe(failure(started, cause)); !errors.Is(err, bus.ErrFull) {
			return // logged, or the life has ended
		}
		pause(o.ctx, fullRetryTime)
	}
}

// failure is the finish of an operation that failed.
func failure(started events.Position, cause error) events.Entry {
	return events.Entry{Event: events.OperationFinished{Started: started, Failure: string(fault.CodeOf(cause))}}
}

// recover settles, oldest first, the operations that an earlier life has left without a
// finish: they become true where they still can, because their start was durable and
// somebody may have been told so.
func (o *operations) recover(ctx context.Context) error {
	for _, left := range o.writer.replica.Unfinished() {
		if err := o.settle(ctx, left.Started, left.Intent); err != nil {
			return err
		}
	}
	return nil
}

func (o *operations) settle(ctx context.Context, started events.Position, intent events.Event) error {
	for {
		out, err := o.finish(started, intent)
		switch {
		case err == nil:
			return o.applied(out.position)
		case errors.Is(err, bus.ErrFull):
			pause(ctx, fullRetryTime)
			if ctx.Err() != nil {
				return ctx.Err()
			}
		case o.unsettled(started, err):
			o.abandon(started, err)
			return ctx.Err()
		default:
			return err
		}
	}
}
