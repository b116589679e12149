package replayer

import (
	"context"

	"tidemark/events"
	"tidemark/internal/tail"
)

// everOpened reports whether this node's copy was opened once: then it is opened again
// for as long as it takes, because policy, which was told so, does not ask again.
func (f *follower) everOpened() bool {
	select {
	case <-f.opened:
		return true
	default:
		return false
	}
}

// became makes a copy the one that is asked about.
func (f *follower) became(own *ownCopy) {
	f.mu.Lock()
	f.own = own
	f.mu.Unlock()
	f.becameOpen()
}

// becameOpen says that there is a copy here: policy need not ask again.
func (f *follower) becameOpen() {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.opened:
	default:
		close(f.opened)
	}
}

// enter changes the state.
func (f *follower) enter(to State, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != to {
		if _, bad := next(f.state, to); bad != nil {
			f.log.Error("impossible transition", "error", bad)
		}
	}
	f.state = to
	if to == Replaying {
		f.tally.follows()
	}
	if to == Replaying || to == Syncing || to == Resyncing || err != nil {
		f.err = err
	}
}

func (f *follower) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *follower) setSource(s *source) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.source = s
	if s != nil {
		f.last = s
	}
}

// copy returns this node's copy, nil while it is not open.
func (f *follower) copy() *ownCopy {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.own
}

func (f *follower) lastSource() *source {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// marks returns how far this copy has come; zero before it was opened.
func (f *follower) marks() tail.Marks {
	f.mu.Lock()
	own, left := f.own, f.left
	f.mu.Unlock()
	if own != nil {
		return own.tail.Marks()
	}
	return left
}

// note has a turn in the directory's life noted. Nothing depends on it.
func (f *follower) note(what events.Lifecycle, detail string) { f.noteWith("", what, detail) }

// noteWith is note of a turn that is about another site, or a client of a journal.
func (f *follower) noteWith(with string, what events.Lifecycle, detail string) {
	turn := f.turn(with, what)
	turn.Mark, turn.Detail = f.marks().Applied, detail
	f.service.shared.Note(turn)
}

// lasts reports whether a turn was noted, perhaps by an earlier process, and has not ended.
func (f *follower) lasts(ctx context.Context, with string, what events.Lifecycle) bool {
	return f.service.shared.Lasts(ctx, f.turn(with, what))
}

func (f *follower) turn(with string, what events.Lifecycle) events.LifecycleNoted {
	return events.LifecycleNoted{Directory: f.id, Pool: f.name.Pool, Path: f.name.Path, What: what, With: with}
}
