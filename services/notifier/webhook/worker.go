package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
)

const (
	// ackWait is how long a notifier that died keeps a note from being tried again.
	ackWait = 5 * time.Second
	// idleMax is how long a URL's position is kept that no notifier asks for.
	idleMax       = 30 * 24 * time.Hour
	pause         = 250 * time.Millisecond
	errorBytesMax = 512
)

// worker delivers to one endpoint what one place in a stream gives it.
type worker struct {
	*Service
	endpoint Endpoint
	poster   *poster
	stream   string
	place    bus.DurableConfig

	refusals int    // in a row, of the note that is under way
	note     uint64 // its sequence

	mu      sync.Mutex // protects what follows
	reader  *bus.Durable
	failing string // why the last try failed
}

// letter is a note on its way.
type letter struct {
	sequence uint64 // in LIFECYCLE
	turn     events.LifecycleNoted
}

// run delivers until ctx ends.
func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := w.read(ctx)
		if ctx.Err() != nil {
			return
		}
		w.log.Warn("notes for a webhook are read again", "webhook", w.endpoint, "stream", w.stream, "error", err)
		if !sleep(ctx, pause) {
			return
		}
	}
}

func (w *worker) read(ctx context.Context) error {
	reader, err := w.bus.OpenDurable(ctx, w.stream, w.place)
	if err != nil {
		return err
	}
	defer reader.Stop()
	w.mu.Lock()
	w.reader = reader
	w.mu.Unlock()
	for {
		d, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		if err := w.handle(ctx, &d); err != nil {
			return err
		}
	}
}

// handle makes one try with a message, and answers for it.
func (w *worker) handle(ctx context.Context, d *bus.Delivery) error {
	l, ok := w.open(d)
	if !ok {
		return d.Done(ctx)
	}
	body, err := Encode(w.site.UUID, w.site.Name, l.sequence, l.turn)
	if err != nil {
		w.log.Error("note passed over: it cannot be told", "sequence", l.sequence, "error", err)
		return d.Done(ctx)
	}
	outcome := w.try(ctx, d, EventID(l.sequence), body)
	if ctx.Err() != nil {
		return d.Again(0) // the next notifier need not wait
	}
	return w.answer(ctx, d, l, outcome)
}

// open reads a message: false for one that is not to be delivered.
func (w *worker) open(d *bus.Delivery) (letter, bool) {
	fact, err := events.Unmarshal(d.Data)
	if err != nil {
		w.log.Error("message passed over: it cannot be read", "stream", w.stream, "sequence", d.Sequence, "error", err)
		return letter{}, false
	}
	switch f := fact.(type) {
	case *events.LifecycleNoted:
		return letter{d.Sequence, *f}, true
	case *events.LetterResent:
		return letter{f.Sequence, f.Turn}, true
	}
	return letter{}, false
}

// try posts, and keeps the message from being given to somebody else meanwhile.
func (w *worker) try(ctx context.Context, d *bus.Delivery, id string, body []byte) Outcome {
	ctx, cancel := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	defer keeping.Wait()
	defer cancel()
	keeping.Go(func() {
		tick := time.NewTicker(ackWait / 3)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if err := d.Working(); err != nil {
				w.log.Debug("a note may be tried twice at once", "webhook", w.endpoint, "error", err)
			}
		}
	})
	return w.poster.post(ctx, id, body)
}

// answer does what was decided about a try.
func (w *worker) answer(ctx context.Context, d *bus.Delivery, l letter, o Outcome) error {
	if w.note != l.sequence {
		w.note, w.refusals = l.sequence, 0
	}
	if o.Refused() {
		w.refusals++
	} else {
		w.refusals = 0
	}
	step, wait := w.policy.Decide(o, Tried{d.Tries, w.refusals, time.Since(d.Stored)}, rand.Float64())
	w.count(o, step)
	switch step {
	case Deliver:
		return d.Done(ctx)
	case Bury:
		if err := w.bury(ctx, d.Tries, l, o); err != nil {
			return err
		}
		return d.Done(ctx)
	case Again:
	}
	w.log.Debug("a webhook is tried again", "webhook", w.endpoint, "sequence", l.sequence, "tries", d.Tries, "outcome", o.String(), "wait", wait)
	return d.Again(wait)
}

// count keeps what a try came to.
func (w *worker) count(o Outcome, step Step) {
	failing := ""
	if step != Deliver {
		failing = shorten(o.String())
		w.metrics.failures.WithLabelValues(w.labels()...).Inc()
	} else {
		w.metrics.deliveries.WithLabelValues(w.labels()...).Inc()
	}
	w.mu.Lock()
	began := w.failing == "" && failing != ""
	ended := w.failing != "" && failing == ""
	w.failing = failing
	w.mu.Unlock()
	switch {
	case began:
		w.log.Warn("a webhook fails", "webhook", w.endpoint, "outcome", failing)
	case ended:
		w.log.Info("a webhook works again", "webhook", w.endpoint)
	}
}

func (w *worker) labels() []string { return []string{w.endpoint.Name, w.endpoint.Host} }

// bury makes a dead letter of a note.
func (w *worker) bury(ctx context.Context, tries uint64, l letter, o Outcome) error {
	dead := &events.LetterDied{
		Webhook: w.endpoint.Name, Host: w.endpoint.Host, Sequence: l.sequence, Turn: l.turn,
		Tries: tries, Error: shorten(o.String()), At: events.InstantOf(time.Now()),
	}
	if _, err := w.bus.Publish(ctx, events.StreamDeliveries, dead); err != nil {
		return fmt.Errorf("give up note %d: %w", l.sequence, err)
	}
	w.log.Log(ctx, slog.LevelError, "a note could not be delivered", "webhook", w.endpoint, "sequence", l.sequence,
		"what", string(l.turn.What), "tries", tries, "outcome", dead.Error)
	return nil
}

func shorten(s string) string {
	if len(s) > errorBytesMax {
		return s[:errorBytesMax]
	}
	return s
}

// sleep reports whether it slept to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
