package replayer

import (
	"context"
	"errors"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/lineage"
)

// betterAge is how often a follower of a site that is no primary looks for one that it had
// better follow. What it follows it goes on following meanwhile.
const betterAge = 5 * time.Second

// candidate is what is known of a site when one to follow is chosen.
type candidate struct {
	primary bool
	// hears: it hears a primary now, and goes on with what that has. Sites that follow each
	// other, and no other, do not; nor does one that hears only of who was demoted.
	hears   bool
	applied events.Mark
}

// authority is what the site speaks for.
func (c candidate) authority() lineage.Authority {
	switch {
	case c.primary:
		return lineage.Owns
	case c.hears:
		return lineage.Hears
	}
	return lineage.Alone
}

// beats reports whether a site is to be followed rather than another: the primary, else one
// that hears the primary, else the one that holds more. Who holds less gives up claims for
// it, never the other way round ([lineage.Decide]).
func (c candidate) beats(other candidate) bool {
	switch {
	case c.primary != other.primary:
		return c.primary
	case c.hears != other.hears:
		return c.hears
	}
	return lineage.Less(other.applied, c.applied)
}

// owns reports whether the source is the directory's primary, now.
func (s *source) owns() bool { return s.candidate.primary || s.promoted.Load() }

// appraise asks a source how it stands.
func (s *source) appraise(ctx context.Context, name events.DirectoryName) error {
	at, err := api.Call[api.Directory](ctx, s.talk.Conn(), api.SharedResolve(name.Pool), name)
	if err != nil {
		return err
	}
	s.directory, s.candidate = at.ID, candidate{primary: at.Role == events.Master}
	if s.candidate.primary {
		return nil
	}
	// One that does not tell is as good as one that hears nobody.
	status, err := askSource[api.Status](ctx, &source{talk: s.talk, directory: at.ID}, api.DirectoryStatus, api.Nothing{})
	if err == nil {
		s.candidate.applied = status.Applied
		s.candidate.hears = status.Primary != "" && status.Lag.Unheard == 0
	}
	return nil
}

// seekBetter ends a following when there is a site that is better followed. It notices a
// source that has become primary, which is followed as before.
func (f *follower) seekBetter(ctx context.Context, src *source) error {
	tick := time.NewTicker(betterAge)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if src.owns() {
			continue
		}
		now, err := f.appraiseAgain(ctx, src)
		if err != nil {
			continue // whether it is there at all is for hear to say
		}
		if now.primary {
			f.log.Info("the site that is followed has become primary", "site", src.peer.Site)
			src.promoted.Store(true)
			continue
		}
		if f.anyBeats(ctx, src, now) {
			return errLookAgain
		}
	}
}

// appraiseAgain asks a source that is followed how it stands now.
func (f *follower) appraiseAgain(ctx context.Context, src *source) (candidate, error) {
	ctx, cancel := src.during(ctx, askTime)
	defer cancel()
	again := &source{talk: src.talk}
	err := again.appraise(ctx, f.name)
	return again.candidate, err
}

// anyBeats reports whether one of the other peers is better followed than what is. To hold
// more of a history is a reason only where it does not come by itself: sites that follow
// each other wait for what a third one has, for ever.
func (f *follower) anyBeats(ctx context.Context, src *source, now candidate) bool {
	others := f.service.clients.Peers.Receivable(f.name.Pool)
	for _, peer := range others {
		if peer.Peer == src.peer.Peer {
			continue
		}
		w, err := f.dial(ctx, ", looking", peer)
		if err != nil {
			continue
		}
		other := &source{talk: w}
		bounded, cancel := other.during(ctx, askTime)
		err = other.appraise(bounded, f.name)
		cancel()
		other.close()
		is := other.candidate
		if err == nil && (is.primary || !now.hears && is.beats(now)) {
			return true
		}
	}
	return false
}

// moveOn tells a site that was followed, and is no more, that it need not wait for this one:
// again and again, because it may be out of reach.
func (f *follower) moveOn(from *source) {
	s := f.service
	s.running.Go(func() {
		ctx, end := s.departures.begin(s.ctx, f.id, from.peer.Peer)
		defer end()
		for ctx.Err() == nil && s.clients.Peers.Has(f.name.Pool, from.peer.Peer) {
			err := f.sayLeft(ctx, from)
			if err == nil || errors.Is(context.Cause(ctx), errFollowsAgain) {
				return
			}
			f.log.Debug("the former source was not told that another is followed", "site", from.peer.Site, "error", err)
			pause(ctx, jittered(moveOnWait))
		}
	})
}

// moveOnWait is how long is waited between tries to tell a former source.
const moveOnWait = 20 * time.Second
