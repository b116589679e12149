package replayer

import (
	"context"
	"errors"
	"time"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/tail"
)

// classify enters the state that an error means, and returns how long to wait. What only an
// operator can help with is told once, not at each try.
func (f *follower) classify(ctx context.Context, err error, wait time.Duration) time.Duration {
	state, turn, isStuck := stuck(err)
	f.failed(err)
	if errors.Is(err, errSwitchedOff) {
		f.enter(Stopped, err)
		return wait
	}
	if !isStuck {
		if len(f.service.clients.Peers.Receivable(f.name.Pool)) == 0 {
			f.resolved(ctx, "") // there is nobody to have parted from
		}
		f.enter(Errored, err)
		f.log.Warn("not following", "error", err)
		return wait
	}
	if f.parted(state, err) {
		f.log.Error("not following", "state", state, "error", err)
		f.noteWith(f.partedFrom(turn), turn, err.Error())
	}
	f.enter(state, err)
	return retryStuck
}

// stuck reports whether an error says that only an operator can help, and with which state.
func stuck(err error) (State, events.Lifecycle, bool) {
	switch {
	case errors.Is(err, tail.ErrDiverged), fault.CodeOf(err) == fault.SplitBrain:
		return SplitBrain, events.Diverged, true
	case errors.Is(err, tail.ErrTrimmed), errors.Is(err, errOtherLife):
		return Disconnected, events.Disconnected, true
	}
	return "", "", false
}

// parted remembers why this copy cannot go on, and reports whether that is new.
func (f *follower) parted(state State, err error) (news bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	news = f.noted != state
	f.noted, f.split, f.splitAt = state, nil, time.Now()
	var split *splitError
	if errors.As(err, &split) {
		f.split = split.split
	}
	return news
}

// partedFrom says whom the turn is about that an operator must help with.
func (f *follower) partedFrom(turn events.Lifecycle) string {
	if turn == events.Disconnected {
		return f.service.clients.Self()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.split != nil:
		f.splitFrom = f.split.Peer
	case f.last != nil:
		f.splitFrom = f.last.peer.Site
	}
	return f.splitFrom
}

// resolved forgets a split brain: the source is followed, or there is none. Listeners are
// told, also if it was an earlier process that told them of the trouble.
func (f *follower) resolved(ctx context.Context, site string) {
	f.mu.Lock()
	noted, from, recalled := f.noted, f.splitFrom, f.recalled
	f.noted, f.split, f.recalled = "", nil, true
	f.mu.Unlock()
	self := f.service.clients.Self()
	if !recalled && noted == "" {
		from = site
	}
	if noted == SplitBrain || !recalled && f.lasts(ctx, from, events.Diverged) {
		f.noteWith(from, events.Reunited, "")
	}
	if noted == Disconnected || !recalled && f.lasts(ctx, self, events.Disconnected) {
		f.noteWith(self, events.Reconnected, "")
	}
}
