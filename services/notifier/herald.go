package notifier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/bus"
)

// herald notes in LIFECYCLE the turns that other streams hold as facts: each exactly
// once, also over restarts, and beside the herald of another notifier.
//
//	DIRECTORIES, INSTANCES, NOTIFICATIONS ─► Turns ─► not noted yet? ─► LIFECYCLE
//	                                                     ▲                 │
//	                                                     └──── causes ◄────┘
//
// A note names its cause, and is published on the condition that LIFECYCLE ends where
// this herald has read it to. LIFECYCLE drops its oldest notes, so what was noted last of
// each stream stands in DELIVERIES as well: a start reads LIFECYCLE from there on only.
type herald struct {
	bus *bus.Bus
	log *slog.Logger
	// publishing holds a token while nobody publishes: the streams do not overtake each
	// other for nothing.
	publishing chan struct{}

	mu    sync.Mutex
	noted map[string]events.Cause // the last one noted, by stream
	read  uint64                  // last sequence of LIFECYCLE that was read
	// unmarked is what was noted last of a stream and not kept in DELIVERIES yet.
	unmarked map[string]events.TurnDerived
	changed  chan struct{} // closed when one of both changes
}

func newHerald(b *bus.Bus, log *slog.Logger) *herald {
	h := &herald{
		bus: b, log: log, publishing: make(chan struct{}, 1),
		noted: map[string]events.Cause{}, unmarked: map[string]events.TurnDerived{}, changed: make(chan struct{}),
	}
	h.publishing <- struct{}{}
	return h
}

// run notes turns until ctx ends. Whatever goes wrong, it begins anew from the log.
func (h *herald) run(ctx context.Context) {
	for {
		err := h.once(ctx)
		if ctx.Err() != nil {
			return
		}
		h.log.Warn("turns are derived again", "error", err)
		if !sleep(ctx, pause) {
			return
		}
	}
}

// once notes turns until something goes wrong or ctx ends. The facts of a stream are read
// from the first on each time: a turn may need what an earlier fact said.
func (h *herald) once(ctx context.Context) error {
	from, err := h.begin(ctx)
	if err != nil {
		return fmt.Errorf("learn what was noted last: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return h.bus.Follow(ctx, events.StreamLifecycle, from, func(m bus.Message) error {
			fact, _ := events.Unmarshal(m.Data) // what cannot be read is no note of a herald
			h.saw(m.Sequence, fact)
			return nil
		})
	})
	g.Go(func() error { return h.mark(ctx) })
	for _, stream := range TurnSources() {
		g.Go(func() error { return h.derive(ctx, stream) })
	}
	return g.Wait()
}

// begin learns from DELIVERIES what was noted last, and returns from where LIFECYCLE must
// be read to know what was noted since.
func (h *herald) begin(ctx context.Context) (from uint64, err error) {
	derived, err := h.derived(ctx)
	if err != nil {
		return 0, err
	}
	lifecycle, err := h.bus.State(ctx, events.StreamLifecycle)
	if err != nil {
		return 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.noted)
	clear(h.unmarked)
	from = lifecycle.Last + 1
	for _, stream := range TurnSources() {
		f, known := derived[stream]
		h.noted[stream] = f.Cause
		if !known {
			f.Note = 0 // whatever LIFECYCLE still holds
		}
		from = min(from, f.Note)
	}
	from = max(from, lifecycle.First)
	h.read = from - 1
	return from, nil
}

// derived returns what DELIVERIES says, by stream.
func (h *herald) derived(ctx context.Context) (map[string]events.TurnDerived, error) {
	derived := map[string]events.TurnDerived{}
	watching, enough := context.WithCancel(ctx)
	defer enough()
	err := h.bus.Watch(watching, events.StreamDeliveries, events.DerivedSubject, enough, func(_ uint64, fact events.Fact) error {
		if f, ok := fact.(*events.TurnDerived); ok {
			derived[f.Cause.Stream] = *f
		}
		return nil
	})
	if watching.Err() == nil {
		return nil, err
	}
	return derived, ctx.Err()
}

// saw notes a message of LIFECYCLE.
func (h *herald) saw(seq uint64, fact events.Fact) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f, ok := fact.(*events.LifecycleNoted); ok && f.Cause != nil && later(*f.Cause, h.noted[f.Cause.Stream]) {
		h.noted[f.Cause.Stream] = *f.Cause
	}
	h.read = seq
	close(h.changed)
	h.changed = make(chan struct{})
}

// later reports whether a cause comes behind another one of its stream.
func later(c, than events.Cause) bool {
	if c.Sequence != than.Sequence {
		return c.Sequence > than.Sequence
	}
	return c.Part > than.Part || than.Stream == ""
}

// derive notes the turns of a stream until ctx ends, once it is known what was noted.
func (h *herald) derive(ctx context.Context, stream string) error {
	if err := h.catchUp(ctx); err != nil {
		return err
	}
	turns := NewTurns()
	return h.bus.Fold(ctx, stream, func() {}, func(seq uint64, fact events.Fact) error {
		for part, turn := range turns.Next(fact) {
			turn.Cause = &events.Cause{Stream: stream, Sequence: seq, Part: part}
			if err := h.note(ctx, turn); err != nil {
				return err
			}
		}
		return nil
	})
}

// errRolledBack says that LIFECYCLE ends before what was read of it.
var errRolledBack = errors.New("notes that were read are gone")

// catchUp returns when LIFECYCLE was read to the end that it had at the call.
func (h *herald) catchUp(ctx context.Context) error {
	state, err := h.bus.State(ctx, events.StreamLifecycle)
	if err != nil {
		return err
	}
	for {
		h.mu.Lock()
		read, changed := h.read, h.changed
		h.mu.Unlock()
		switch {
		case read == state.Last:
			return nil
		case read > state.Last:
			// Others may have noted something between the two looks.
			if now, err := h.bus.State(ctx, events.StreamLifecycle); err != nil || now.Last < read {
				return errors.Join(errRolledBack, err)
			}
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// note publishes a note unless it is there, and returns when it is.
func (h *herald) note(ctx context.Context, turn events.LifecycleNoted) error {
	select {
	case <-h.publishing:
		defer func() { h.publishing <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		is, read := h.isNoted(*turn.Cause)
		if is {
			return nil
		}
		seq, err := h.bus.PublishAfter(ctx, events.StreamLifecycle, read, &turn)
		if err != nil && !errors.Is(err, bus.ErrOvertaken) {
			return fmt.Errorf("note %s: %w", turn.What, err)
		}
		if err == nil {
			h.mu.Lock()
			h.unmarked[turn.Cause.Stream] = events.TurnDerived{Cause: *turn.Cause, Note: seq}
			h.mu.Unlock()
		}
		if err := h.catchUp(ctx); err != nil {
			return err
		}
	}
}

// isNoted reports whether a turn is noted as far as LIFECYCLE was read, and how far that is.
func (h *herald) isNoted(cause events.Cause) (is bool, read uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !later(cause, h.noted[cause.Stream]), h.read
}

// markAge is how often it is kept in DELIVERIES what was noted last. Until then LIFECYCLE
// says it, which takes longer to drop a note.
const markAge = time.Second

// mark keeps what was noted last of each stream, until ctx ends.
func (h *herald) mark(ctx context.Context) error {
	tick := time.NewTicker(markAge)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := h.markAll(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), markAge)
			defer cancel()
			return h.markAll(last)
		}
	}
}

func (h *herald) markAll(ctx context.Context) error {
	h.mu.Lock()
	unmarked := h.unmarked
	h.unmarked = map[string]events.TurnDerived{}
	h.mu.Unlock()
	for _, mark := range unmarked {
		mark.At = events.InstantOf(time.Now())
		if _, err := h.bus.Publish(ctx, events.StreamDeliveries, &mark); err != nil {
			return fmt.Errorf("keep what was noted last: %w", err)
		}
	}
	return nil
}
