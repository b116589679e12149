package notifier

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"tidemark/events"
)

// errAnswer is an answer of a node that is none to what it was asked.
var errAnswer = errors.New("the answer is not one to this request")

// noteRejected tells listeners of an answer that was passed over: of the first one to a
// request, the second, the fourth and so on. Nothing depends on it.
func (s *Service) noteRejected(ctx context.Context, r Request, n uint, why error) {
	if bits.OnesCount(n) > 1 {
		return
	}
	asked, name := askedOf(r.Fact)
	_, err := s.bus.Publish(ctx, events.StreamLifecycle, &events.LifecycleNoted{
		Directory: asked.Directory, Pool: name.Pool, Path: name.Path, Node: asked.Node, What: events.AcknowledgementRejected,
		Detail: shorten(fmt.Sprintf("operation %q, answer %d: %v", asked.Operation, n, why)), At: events.InstantOf(time.Now()),
	})
	if err != nil && ctx.Err() == nil {
		s.log.Warn("rejected answer not noted", "operation", asked.Operation, "error", err)
	}
}

const (
	// rejectedMax is how many acknowledgements in a row are each told of as rejected; of more,
	// only the 32nd, the 64th and so on are: who floods the log is not helped to flood another.
	rejectedMax = 16
	// answeredMax is how many operations are remembered to tell a late answer from one that
	// nobody asked for.
	answeredMax = 1024
)

// rejections counts the acknowledgements in a row that changed nothing.
type rejections struct {
	count    uint
	answered []string // operations, oldest first
}

func (r *rejections) accepted(operation string) {
	r.count = 0
	if r.answered = append(r.answered, operation); len(r.answered) > 2*answeredMax {
		r.answered = slices.Clone(r.answered[answeredMax:])
	}
}

// reject is an acknowledgement in the log that does not repeat a request which waits for it.
func (t *Turns) reject(a events.Assignment, at events.Instant) []events.LifecycleNoted {
	t.rejected.count++
	if n := t.rejected.count; n > rejectedMax && bits.OnesCount(n) > 1 {
		return nil
	}
	turn := events.LifecycleNoted{What: events.AcknowledgementRejected, At: at}
	why := "nobody asked for it"
	asked, name := askedOf(t.requests[a.Operation])
	switch {
	case asked.Operation != "":
		turn.Directory, turn.Pool, turn.Path = asked.Directory, name.Pool, name.Path
		why = "it does not repeat what was asked"
	case slices.Contains(t.rejected.answered, a.Operation):
		why = "it was answered already"
	}
	turn.Node = asked.Node
	turn.Detail = shorten(fmt.Sprintf("operation %q of node %q, directory %q, epoch %d: %s", a.Operation, a.Node, a.Directory, a.Epoch, why))
	if n := t.rejected.count; n > rejectedMax {
		turn.Detail = fmt.Sprintf("%d in a row, the last: %s", n, turn.Detail)
	}
	return one(turn)
}

// askedOf returns what a request asks for, nothing if it is none.
func askedOf(request events.Fact) (events.Assignment, events.DirectoryName) {
	switch r := request.(type) {
	case *events.AcquireRequested:
		return r.Assignment, events.DirectoryName{Pool: r.Pool, Path: r.Path}
	case *events.ReleaseRequested:
		return r.Assignment, events.DirectoryName{Pool: r.Pool, Path: r.Path}
	}
	return events.Assignment{}, events.DirectoryName{}
}
