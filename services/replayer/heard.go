package replayer

import (
	"context"
	"errors"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
)

// headKept is how often the source's head is kept, if it has moved.
const headKept = 5 * time.Second

// keepHead keeps what is heard of the source for whoever asks after a restart what it had.
func (f *follower) keepHead(ctx context.Context) error {
	tick := time.NewTicker(headKept)
	defer tick.Stop()
	var kept events.Position
	for {
		ended := false
		select {
		case <-tick.C:
		case <-ctx.Done():
			ended = true
		}
		fact := f.lastHeard()
		if fact.Head.Position != kept || ended && fact.Head.Position != 0 { // an idle primary is heard too
			kept = fact.Head.Position
			if err := f.publishHead(ctx, fact); err != nil {
				f.log.Warn("what was heard of the source is not kept", "error", err)
			}
		}
		if ended {
			return nil
		}
	}
}

func (f *follower) lastHeard() events.HeadHeard {
	f.mu.Lock()
	defer f.mu.Unlock()
	fact := events.HeadHeard{Directory: f.id, Client: f.service.clients.Self(), Source: f.headOf, At: events.InstantOf(f.headAt)}
	if f.head != nil {
		fact.Head = f.head.Logged
	}
	return fact
}

// publishHead keeps a head, also when the following has just ended.
func (f *follower) publishHead(ctx context.Context, fact events.HeadHeard) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
	defer cancel()
	return f.tenure.Publish(ctx, &fact)
}

// recallHead brings back what an earlier process has heard of the source.
func (f *follower) recallHead(ctx context.Context) {
	subject := events.HeardSubject(f.id, f.service.clients.Self())
	m, err := f.service.deps.Bus.Last(ctx, events.StreamPositions, subject)
	if err != nil {
		if !errors.Is(err, bus.ErrNotFound) {
			f.log.Warn("what was heard of the source is not known", "error", err)
		}
		return
	}
	fact, err := events.Unmarshal(m.Data)
	heard, ok := fact.(*events.HeadHeard)
	if err != nil || !ok {
		f.log.Warn("what was heard of the source cannot be read", "error", err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.head == nil {
		f.head, f.headAt = &events.HeadAdvanced{Directory: f.id, Logged: heard.Head}, heard.At.Time()
		f.headOf = heard.Source
	}
}

// received returns how far this copy would reach if it were promoted now.
func (o *ownCopy) received() events.Mark {
	logged, last := o.tail.Marks().Logged, o.inbox.last()
	if last.Position > logged.Position {
		return last
	}
	return logged
}
