package tail

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"tidemark/events"
	"tidemark/internal/natsd"
	"tidemark/internal/sitetest"
)

// mib appends n messages of 1 MiB or so, and returns where each ends, by its sequence.
func (r *rig) mib(n uint64) map[uint64]events.Mark {
	r.t.Helper()
	marks := map[uint64]events.Mark{}
	for i := range n {
		r.put(r.batch(0, written(i, events.PayloadMax), written(i, events.PayloadMax), written(i, events.PayloadMax)))
		marks[r.tail.LastSequence()] = r.mark
	}
	return marks
}

// journal 68: a trim that dies behind the purge, or before what must follow it, is made
// up for by the next: nothing more goes, and what is left is replayed.
func TestTrimIsCutShort(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.open(func(cfg *Config) { cfg.TrimBelow = func() events.Position { return Everything } })
	stop := r.run()
	r.begin()
	broken := errors.New("the process dies")
	r.syncer.trimmed.Store(&broken)
	r.mib(64)
	r.drain()
	if _, err := r.tail.Commit(r.ctx()); err != nil {
		t.Fatal(err)
	}
	sitetest.Eventually(t, "purged", func() bool { return r.state().First > 1 })
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := r.replica.Close(); err != nil {
		t.Fatal(err)
	}
	first := r.state().First
	r.syncer.trimmed.Store(nil)
	r.open(func(cfg *Config) { cfg.TrimBelow = r.cfg.TrimBelow })
	for range 2 {
		if err := r.tail.trimmer.trim(r.ctx(), r.mark); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.state().First; got != first {
		t.Errorf("the same checkpoint trims up to %d, and again up to %d", first, got)
	}
	if err := r.replica.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.replayed(); err != nil {
		t.Error(err)
	}
}

// TestRegistrationAgainstTrim: while the log is trimmed again and again, a client that is
// let in at the commit position finds what follows it in the log, until it lets go.
func TestRegistrationAgainstTrim(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	positions := said()
	r.open(func(cfg *Config) {
		cfg.TrimBelow = func() events.Position { return positions.Needed("d", "o", everybody) }
	})
	r.run()
	r.begin()
	r.mib(48)
	r.drain()
	var seq atomic.Uint64
	say := func(f events.PositionCommitted) { f.Directory = "d"; positions.Note(seq.Add(1), f) }
	for round := range uint64(6) {
		trimmed := make(chan struct{})
		mark := r.tail.Marks().Committed
		go func() {
			defer close(trimmed)
			if _, err := r.tail.Commit(r.ctx()); err != nil { // and a trim
				t.Error(err)
			}
		}()
		err := r.tail.BetweenTrims(r.ctx(), func(begins events.Position) error {
			if begins > mark.Position {
				return ErrTrimmed
			}
			f := letIn("w", 0)
			f.Mark = mark
			say(f)
			return nil
		})
		<-trimmed
		r.mib(24) // all of it may go but for the client
		r.drain()
		if _, err := r.tail.Commit(r.ctx()); err != nil {
			t.Fatal(err)
		}
		if err == nil {
			if _, err := Find(r.ctx(), r.log, mark); err != nil {
				t.Errorf("round %d: let in at %v: %v", round, mark.Position, err)
			}
			say(word("w", events.ClientRemoved, 0))
		} else if !errors.Is(err, ErrTrimmed) {
			t.Fatal(err)
		}
	}
	sitetest.Eventually(t, "trimmed", func() bool {
		begins, err := r.tail.Begins(r.ctx())
		return err == nil && begins > events.At(0x1001, 1) && r.state().Bytes < 4*natsd.TrimSlack
	})
	old := events.Position(1)
	err := r.tail.BetweenTrims(r.ctx(), func(begins events.Position) error {
		if begins <= old {
			t.Errorf("the log begins at %v", begins)
		}
		return errRefused
	})
	if !errors.Is(err, errRefused) {
		t.Error(err)
	}
}

var errRefused = errors.New("refused")
