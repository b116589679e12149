package holder

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/tail"
)

// Tenure is an assignment under which this node holds a directory, for as long as the log
// goes along with it. Policy ends it by a fence ([events.PositionsFenced]) with the epoch of
// the assignment or a later one.
//
// What is published under a tenure names the newest fence that it knows, and is refused by
// the log if there is a newer one, whatever this process believes, and however long it was
// stopped in between.
type Tenure struct {
	bus   *bus.Bus
	ended chan<- string // the incarnation whose tenure ended; may be nil

	mu         sync.Mutex // over what follows
	assignment events.Assignment
	known      bool
	fence      uint64 // sequence of the newest fence, 0 if there is none; if known
	over       error  // tail.ErrFenced once it ended
}

// Tenure returns the tenure of an assignment of this node.
func (s Service) Tenure(a events.Assignment) *Tenure {
	return &Tenure{bus: s.Bus, ended: s.Ended, assignment: a}
}

// Renew goes on with the same directory under a later assignment.
func (t *Tenure) Renew(a events.Assignment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.Epoch >= t.assignment.Epoch {
		t.assignment = a
	}
}

// Over reports whether the tenure was found to have ended.
func (t *Tenure) Over() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.over != nil
}

// Check looks whether the tenure lasts: [tail.ErrFenced] if it has ended. It may end in the
// next moment: only what is published under it is sure.
func (t *Tenure) Check(ctx context.Context) error {
	t.mu.Lock()
	a, over := t.assignment, t.over
	t.mu.Unlock()
	if over != nil {
		return over
	}
	newest, err := t.bus.Last(ctx, events.StreamPositions, events.FenceSubject(a.Directory))
	if errors.Is(err, bus.ErrNotFound) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("look for fences of directory %s: %w", a.Directory, err)
	}
	var fence events.PositionsFenced
	if newest.Sequence > 0 {
		fact, err := events.Unmarshal(newest.Data)
		if f, ok := fact.(*events.PositionsFenced); ok && err == nil {
			fence = *f
		} else {
			return fmt.Errorf("look for fences of directory %s: message %d is none: %w", a.Directory, newest.Sequence, err)
		}
	}
	return t.note(fence.Epoch, newest.Sequence)
}

// note takes the newest fence over.
func (t *Tenure) note(epoch, sequence uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known, t.fence = true, sequence
	if epoch < t.assignment.Epoch || sequence == 0 || t.over != nil {
		return t.over
	}
	t.over = fault.New(fault.Fenced, "this node was taken for dead, and directory %s given on: epoch %d is fenced: %w",
		t.assignment.Directory, epoch, tail.ErrFenced)
	select {
	case t.ended <- t.assignment.Incarnation:
	default: // it was told, or nobody wants to know
	}
	return t.over
}

// Announce publishes this node's commit position under the tenure; [tail.ErrFenced] if that
// has ended.
func (t *Tenure) Announce(ctx context.Context, f events.PositionCommitted) error {
	t.mu.Lock()
	f.Incarnation, f.Epoch = t.assignment.Incarnation, t.assignment.Epoch
	t.mu.Unlock()
	return t.Publish(ctx, &f)
}

// Publish stores a fact in POSITIONS under the tenure; [tail.ErrFenced] if that has ended.
func (t *Tenure) Publish(ctx context.Context, f events.Fact) error {
	for {
		t.mu.Lock()
		known, fence, over, id := t.known, t.fence, t.over, t.assignment.Directory
		t.mu.Unlock()
		if over != nil {
			return over
		}
		if known {
			_, err := t.bus.PublishWhile(ctx, events.StreamPositions, events.FenceSubject(id), fence, f)
			if !errors.Is(err, bus.ErrOvertaken) {
				return err
			}
		}
		if err := t.Check(ctx); err != nil {
			return err
		}
	}
}
