package policy

import (
	"context"
	"errors"
	"fmt"

	"tidemark/events"
	"tidemark/internal/bus"
)

// unfenced returns who may hold the directory though its incarnation is gone, until the log
// refuses what it still says: of several, the one with the greatest epoch, because a fence
// covers every epoch before its own. A directory that was forgotten is given to nobody.
func (v *view) unfenced() *Holder {
	var newest *Holder
	for seat, h := range v.a.Holders {
		if v.forgotten || v.alive(seat) || h.Assignment.Epoch <= v.d.Fenced {
			continue
		}
		if newest == nil || newest.before(h) {
			newest = &h
		}
	}
	return newest
}

// before orders holders by epoch, and those of one epoch in a fixed order.
func (h *Holder) before(o Holder) bool {
	if h.Assignment.Epoch != o.Assignment.Epoch {
		return h.Assignment.Epoch < o.Assignment.Epoch
	}
	return h.Assignment.Operation < o.Assignment.Operation
}

func (v *view) fence() events.Fact {
	seat, epoch := seatOf(v.unfenced().Assignment), v.unfenced().Assignment.Epoch
	return &events.DirectoryFenced{
		Directory: v.d.ID, Pool: v.d.Name.Pool,
		Node: seat.Node, Service: seat.Service, Incarnation: seat.Incarnation, Epoch: epoch, At: v.now,
	}
}

// mustMapAgain reports whether the mapping's epoch was fenced and its node lives, as a new
// incarnation: that keeps the directory, because it has the copy, with an epoch of its own.
// A change of role maps it anyway.
func (v *view) mustMapAgain() bool {
	return v.targetLives() && v.d.Mapping.Epoch <= v.d.Fenced && !v.forgotten && (!v.changesRole() || v.mustDemote())
}

func (v *view) mapAgain() events.Fact { return v.mapTo(v.d.Mapping.Node, v.d.Mapping.Role) }

// fenceFirst fences what must be before the directory's next step, and returns the epoch up
// to which that is done; 0: nothing had to be.
func (s *Service) fenceFirst(ctx context.Context, id events.DirectoryID) (uint64, error) {
	s.mu.Lock()
	f, ok := Decide(s.state, id, now(), "").Fact.(*events.DirectoryFenced)
	s.mu.Unlock()
	if !ok {
		return 0, nil
	}
	needed, err := s.fence(ctx, f)
	if err != nil || !needed {
		return 0, err
	}
	return f.Epoch, nil
}

// fence makes the log refuse what a gone instance still says of a directory, before the fact
// that says so is published. It is needed no more if the instance has let go in order.
//
// The streams are caught up with first: who let go in order since is not fenced, because the
// fence would also hit its successor in the same epoch.
func (s *Service) fence(ctx context.Context, f *events.DirectoryFenced) (needed bool, err error) {
	for _, stream := range []string{events.StreamInstances, events.StreamNotifications} {
		if err := s.catchUp(ctx, stream); err != nil {
			return false, fmt.Errorf("fence epoch %d of %s: %w", f.Epoch, f.Directory, err)
		}
	}
	if !s.stillUnfenced(f) {
		return false, nil
	}
	for {
		err := fenceOnce(ctx, s.bus, f)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, bus.ErrOvertaken) {
			return false, fmt.Errorf("fence epoch %d of %s: %w", f.Epoch, f.Directory, err)
		}
	}
}

func (s *Service) stillUnfenced(f *events.DirectoryFenced) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := newView(s.state, f.Directory, f.At, "")
	if v == nil {
		return false
	}
	h := v.unfenced()
	return h != nil && h.Assignment.Epoch == f.Epoch
}

// fenceOnce stores the fence over the newest one, unless that covers it.
// [bus.ErrOvertaken]: another policy stored one meanwhile.
func fenceOnce(ctx context.Context, b *bus.Bus, f *events.DirectoryFenced) error {
	newest, err := b.Last(ctx, events.StreamPositions, events.FenceSubject(f.Directory))
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return err
	}
	if err == nil {
		if fact, err := events.Unmarshal(newest.Data); err == nil {
			if before, ok := fact.(*events.PositionsFenced); ok && before.Epoch >= f.Epoch {
				return nil
			}
		}
	}
	_, err = b.PublishOver(ctx, events.StreamPositions, newest.Sequence, &events.PositionsFenced{
		Directory: f.Directory, Epoch: f.Epoch, At: f.At,
	})
	return err
}
