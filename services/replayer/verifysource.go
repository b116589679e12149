package replayer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/replica"
)

const (
	// verifyTries is how often a source is asked while the replay here goes on, before it is
	// held for as long as the source is asked.
	verifyTries = 3
	// verifyHold bounds that time.
	verifyHold = 5 * time.Second
	// verifyAskTime bounds one question: the source may have to read much.
	verifyAskTime = 30 * time.Second
	// verifyRetry is the pause before a source is asked again.
	verifyRetry = 20 * time.Millisecond
)

// question is asked of a source. The answer holds at a position or behind it.
type question func(ctx context.Context, src *source) (at events.Position, err error)

// ahead asks the source for something that this copy should not have passed. From some try on
// it makes sure of that: the replay here stands still from before the question is asked until
// release is called.
func (v *verification) ahead(ctx context.Context, try int, ask question) (release func(), err error) {
	if try >= verifyTries {
		release, err = v.held(ctx, ask)
		if fault.CodeOf(err) != fault.Timeout || ctx.Err() != nil {
			return release, err
		}
		// The source is out of reach; the replay does not wait until it is back.
	}
	_, err = v.ask(ctx, ask)
	return func() {}, err
}

// held asks a source until it is where this copy stands, which is held there. Without an error
// it is so until release is called.
func (v *verification) held(ctx context.Context, ask question) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, verifyHold)
	defer cancel()
	at, release := v.own.replica.HoldApply()
	for {
		theirs, err := v.ask(ctx, ask)
		if err == nil && theirs < at {
			err = pauseOrEnd(ctx, verifyRetry)
			if err == nil {
				continue
			}
		}
		if err != nil {
			release()
			return func() {}, err
		}
		return release, nil
	}
}

func pauseOrEnd(ctx context.Context, d time.Duration) error {
	pause(ctx, d)
	return ctx.Err()
}

// ask asks the source that is followed, again and again while it is out of reach.
func (v *verification) ask(ctx context.Context, ask question) (at events.Position, err error) {
	for started := time.Now(); ; {
		var src *source
		if src, err = v.follower.followed(); err == nil {
			at, err = ask(ctx, src)
		}
		switch {
		case err == nil:
			return at, nil
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case !passing(err):
			return 0, err
		case time.Since(started) > verifyPatience:
			return 0, fault.New(fault.Timeout, "the source did not answer for %s: %w", verifyPatience, err)
		}
		pause(ctx, 10*verifyRetry)
	}
}

// passing reports whether an error may be gone when the source is asked again: its process or
// the link to it has ended, or it is not ready yet.
func passing(err error) bool {
	var coded *fault.Error
	switch code := fault.CodeOf(err); code {
	case fault.Timeout, fault.NotReady:
		return true
	case fault.Internal: // the connection was closed; what the source itself says has a code
		return !errors.As(err, &coded)
	default:
		return false
	}
}

// followed returns the source that is followed now: one whose history is this copy's.
func (f *follower) followed() (*source, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.state == SplitBrain:
		return nil, fault.New(fault.SplitBrain, "there is nothing to compare with: %w", f.err)
	case f.state == Disconnected:
		return nil, fault.New(fault.Busy, "the copy follows nobody: %w", f.err)
	case f.state != Replaying || f.source == nil:
		return nil, fault.New(fault.NotReady, "no source is followed at the moment")
	}
	return f.source, nil
}

// await waits until done is closed, or this copy has applied everything up to a position:
// then done never will be, unless it was just now.
func (v *verification) await(ctx context.Context, done <-chan struct{}, upTo events.Position) (happened bool, err error) {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		changed, passed := v.own.tail.Changed(), v.own.tail.Marks().Applied.Position >= upTo
		select {
		case <-done:
			return true, nil
		default:
		}
		if passed {
			return false, nil
		}
		select {
		case <-done:
		case <-changed:
		case <-look.C:
			if quiet := v.follower.quiet(time.Now()); quiet > verifyPatience {
				return false, fault.New(fault.Timeout, "nothing was heard of the source for %s", quiet.Round(time.Second))
			}
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// quiet returns for how long nothing was heard of the primary, zero while that is nothing
// to tell.
func (f *follower) quiet(now time.Time) time.Duration {
	return time.Duration(f.behind(now).Unheard * float64(time.Second))
}

// outline asks for everything that the source has besides data.
func (s *source) outline(ctx context.Context, site string) (replica.Outline, error) {
	var outline replica.Outline
	copied, err := s.fetch(ctx, api.VerifyOutline, api.VerifyOutlineRequest{Site: site}, objectID{}, startBytesMax, func(int) {})
	if err == nil {
		outline, err = replica.DecodeOutline(copied.Data)
	}
	if err != nil {
		return outline, fmt.Errorf("ask what site %s has: %w", s.peer.Site, err)
	}
	return outline, nil
}

// askVerify asks for digests.
func askVerify[Reply any](ctx context.Context, s *source, kind string, request any) (Reply, error) {
	ctx, cancel := s.during(ctx, verifyAskTime)
	defer cancel()
	return api.Call[Reply](ctx, s.bulk.Conn(), api.HolderSubject(s.directory, kind), request)
}

// objects asks for the digests of an image's or snapshot's objects from an index on.
func (v *verification) objects(ctx context.Context, view replica.View, from uint64) (page holder.VerifyObjectsReply, err error) {
	_, err = v.ask(ctx, func(ctx context.Context, src *source) (at events.Position, err error) {
		page, err = askVerify[holder.VerifyObjectsReply](ctx, src, api.VerifyObjects,
			api.VerifyObjectsRequest{Site: v.site(), Image: view.Image, Snapshot: view.Snapshot, From: from})
		return 0, err
	})
	if err == nil && page.Next != 0 && page.Next <= from {
		err = fault.New(fault.Corrupt, "the source lists objects from %d on behind those from %d on", page.Next, from)
	}
	return page, err
}
