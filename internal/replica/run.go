package replica

import (
	"tidemark/events"
	"tidemark/internal/fault"
)

// Apply applies a safe message of the journal that continues [Replica.Applied]. seq is
// its sequence in the journal's stream, kept by the next checkpoint. What
// [Replica.Stage] made visible of the message gives way to what is applied. A run of parts
// that the message cuts is void: use [Replica.ApplyRun].
//
// A message that does not continue what was applied is a [*GapError] or, when it
// belongs to another history, a [*DivergedError]. An entry that meets an object of the
// wrong version is a [*MismatchError], and one that cannot be (it ends beyond its
// image, is about an image that is not there, or makes a fact true that [Replica.Check]
// refuses) has the code [fault.Corrupt]; nothing of such an entry is changed. While a
// first sync runs it is [ErrSyncing].
//
// When entries before the wrong one were applied, or the files could not be changed,
// the replica has failed: it can still be read, but this and every later Apply and
// Checkpoint returns the error. Open it again and replay.
func (r *Replica) Apply(m events.JournalMessage, seq uint64) error {
	return r.ApplyRun([]events.JournalMessage{m}, seq)
}

// ApplyRun applies consecutive messages as one step: no checkpoint falls between them. It
// is what a change of several entries needs that spans messages, and it is cheaper than as
// many calls of Apply: what lies side by side is written at once, what is overwritten in
// the same step is not written. The parts of a change that is not complete within ms are
// void: they change nothing, and what was staged of them disappears. seq is the sequence
// of the last message. Errors are those of [Replica.Apply], which is ApplyRun of one
// message; of a step that fails the messages before the wrong one may be applied or not.
func (r *Replica) ApplyRun(ms []events.JournalMessage, seq uint64) error {
	r.gate.Lock()
	defer r.gate.Unlock()
	r.applying.Lock()
	defer r.applying.Unlock()
	if err := r.usable(); err != nil || len(ms) == 0 {
		return err
	}
	end := ms[len(ms)-1].Ends()
	if r.syncing {
		return fault.New(fault.NotReady, "apply message that ends at %v: %w", end.Position, ErrSyncing)
	}
	mark := r.applied
	for _, m := range ms {
		if err := r.follows(m, mark); err != nil {
			return err
		}
		mark = m.Ends()
	}
	r.mu.Lock()
	r.begun = end.Position
	r.mu.Unlock()
	if err := r.applyMessages(ms); err != nil {
		r.plan.reset()
		return err
	}
	r.mu.Lock()
	r.applied, r.seq = end, seq
	r.mu.Unlock()
	r.arrived(end.Position)
	return r.checkCaughtUp()
}

func (r *Replica) applyMessages(ms []events.JournalMessage) error {
	defer func() { r.passed = 0 }()
	whole := 0 // entries from here on that belong to a run which is complete
	for i, m := range ms {
		var err error
		switch m := m.(type) {
		case *events.Batch:
			whole, err = r.applyBatch(m, ms[i+1:], whole, i == 0)
		case *events.TagClaimed:
			if err = r.carryOut(); err == nil {
				err = r.applyTag(m)
			}
		}
		switch {
		case err == nil:
		case i > 0 && refusal(err):
			return r.fail(err) // messages before it were applied
		default:
			return err
		}
		if err := r.pass(m.Ends(), whole == 0); err != nil {
			return err
		}
	}
	return r.carryOut()
}

// pass notes that a message was dealt with; between says that no run goes on behind it.
// From where catching up ends versions are exact, and nothing may be missing. Who waits for
// a message's end is told of it.
func (r *Replica) pass(end events.Mark, between bool) error {
	was := r.catchingUp()
	r.passed = end.Position
	caughtUp := was && !r.catchingUp()
	witnessed := between && r.witnesses.waiting.Load() > 0
	if caughtUp || witnessed || between && len(r.plan.spans) >= plannedMax {
		if err := r.carryOut(); err != nil {
			return err
		}
	}
	if witnessed {
		r.mu.Lock()
		r.applied = end
		r.mu.Unlock()
		r.arrived(end.Position)
	}
	if caughtUp {
		return r.checkCaughtUp()
	}
	return nil
}

// applyBatch applies a batch, of which the first whole entries are known to belong to a
// complete run; it returns how many of the next batch do. untouched says that nothing was
// applied before it.
func (r *Replica) applyBatch(b *events.Batch, next []events.JournalMessage, whole int, untouched bool) (int, error) {
	for i := range b.Entries {
		e := &b.Entries[i]
		at := stamp{position: b.Position(i), version: e.Version, time: b.End.Time}
		if at.version == 0 {
			at.version = at.position
		}
		if whole == 0 && e.Part.Count != 0 {
			if e.Part.Index != 0 || !complete(b.Entries[i:], next) {
				r.void(e, at.position)
				continue
			}
			whole = int(e.Part.Count)
		}
		whole = max(0, whole-1)
		err := r.applyEntry(e, at)
		switch {
		case err == nil:
		case i == 0 && untouched && refusal(err):
			return 0, err // nothing was changed
		default:
			return 0, r.fail(err)
		}
	}
	return whole, nil
}

// complete reports whether the run that begins with the first of entries ends, in them or
// in the messages that follow.
func complete(entries []events.Entry, next []events.JournalMessage) bool {
	last, rest := entries[0].Part, entries[1:]
	for !last.Last() {
		for len(rest) == 0 {
			if len(next) == 0 {
				return false
			}
			b, ok := next[0].(*events.Batch)
			if !ok {
				return false // a tag breaks it off
			}
			rest, next = b.Entries, next[1:]
		}
		if !rest[0].Part.Continues(last) {
			return false
		}
		last, rest = rest[0].Part, rest[1:]
	}
	return true
}

// void takes away what was staged of an entry that changes nothing.
func (r *Replica) void(e *events.Entry, position events.Position) {
	c, ok := changeOf(e.Event)
	if !ok || !c.sound() {
		return
	}
	if img := r.images[c.image]; img != nil {
		img.unstage(&c, position)
	}
}

func (r *Replica) applyEntry(e *events.Entry, at stamp) error {
	if c, ok := changeOf(e.Event); ok {
		return r.planChange(&c, at, e.Before)
	}
	if err := r.carryOut(); err != nil {
		return err
	}
	defer r.rearranged()
	switch ev := e.Event.(type) {
	case events.Flushed:
		return nil
	case events.OperationStarted:
		return r.startOperation(ev, at)
	case events.OperationFinished:
		return r.finishOperation(ev, at, e.Before)
	}
	return r.applyFact(e.Event, at, e.Before)
}
