package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/site"
)

// claimTries bounds how often a tag is claimed when a former owner is still writing.
const claimTries = 10

// claimPatiently claims a tag behind the log's end, which fences every earlier writer.
// It goes on behind a writer that is still writing, and waits while the log is full.
func (l *life) claimPatiently(ctx context.Context, reason events.TagReason) error {
	for tries := 0; tries < claimTries; {
		err := l.claimTag(ctx, reason)
		switch {
		case err == nil:
			return l.tail.Drain(ctx)
		case errors.Is(err, bus.ErrFull):
			l.directory.becameFull(true)
			l.tail.Hurry()
			pause(ctx, fullRetryTime)
		case errors.Is(err, bus.ErrOvertaken):
			tries++
			if err := l.replay(ctx); err != nil {
				return err
			}
		default:
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("claim a tag: %w", bus.ErrOvertaken)
}

// mayClaim refuses an orderly promotion while the demotion of the former owner was not
// replayed here, and an ordinary opening of what this site does not own: somebody else
// may.
func (l *life) mayClaim(reason events.TagReason) error {
	name, self := l.directory.name, l.directory.service.deps.Node.Site
	if !l.replica.Consistent() {
		return fault.New(fault.NotReady, "the copy of %s here is not complete: its first sync has not ended", name)
	}
	tag := l.replica.Tag()
	demoted := tag != nil && tag.Reason == events.TagDemoted
	// A promotion that failed may have logged its claim, and nothing else.
	begun := tag != nil && tag.Reason == events.TagPromoted && tag.Site == self.UUID && l.tail.Marks().Logged.Same(tag.Mark)
	switch {
	case reason == events.TagForced:
		return nil
	case reason == events.TagPromoted && !demoted && !begun:
		return fault.New(fault.Busy,
			"the other site is still primary of %s, or its demotion has not arrived here: demote it first, or promote with --force and lose what has not arrived",
			name)
	case reason != events.TagPromoted && demoted:
		return fault.New(fault.NotPrimary, "%s was demoted; promote it first", name)
	case reason != events.TagPromoted && tag != nil && tag.Site != self.UUID:
		return fault.New(fault.NotPrimary, "%s is owned by another site; promote it here first", name)
	}
	return nil
}

// claimTag claims the tag after the log's end, as far as the caller knows it, unless this
// node's tenure has ended. It is asked after that end is known: whoever was fenced later, and
// replaced, claims behind an end that is none any more, and whoever was fenced before is
// told so here. So a fenced node never takes a tag from its successor.
func (l *life) claimTag(ctx context.Context, reason events.TagReason) error {
	if err := l.committed(ctx, l.tail.Marks().Committed); err != nil {
		return fmt.Errorf("claim a tag: %w", err)
	}
	self, err := site.Current(ctx, l.directory.service.deps.Bus)
	if err != nil {
		return err
	}
	// A tag of a tail that was lost was given out all the same.
	noted, _ := l.replica.NotedSafe()
	tag, err := max(l.tail.Marks().Logged.Position, noted.Position).Tag().Next(self.Number)
	if err != nil {
		return err
	}
	if reason == events.TagOpened && l.gaveUp() {
		reason = events.TagLost // and died before this was said
	}
	_, err = l.logClaim(ctx, tag, reason, func(mark events.Mark) { l.writer = l.newWriter(mark) })
	return err
}

// gaveUp reports whether the journal ends before what was noted to be safe in it: that was
// given up, or it would not have been opened.
func (l *life) gaveUp() bool {
	noted, _ := l.replica.NotedSafe()
	return noted.Position > l.tail.Marks().Logged.Position
}

// logClaim logs a tag behind the log's end, which the caller knows to be its own. logged
// is called before the tail goes on from there.
func (l *life) logClaim(ctx context.Context, tag events.Tag, reason events.TagReason, logged func(events.Mark)) (events.Mark, error) {
	deps := l.directory.service.deps
	claim := events.TagClaimed{
		Tag: tag, Reason: reason, Site: deps.Node.Site.UUID, Node: deps.Node.Name,
		Incarnation: deps.Node.Incarnation, Predecessor: l.tail.Marks().Logged,
	}
	if last := l.claim.Load(); last != nil {
		claim.PredecessorSite = last.Site
	} else if previous := l.replica.Tag(); previous != nil {
		claim.PredecessorSite = previous.Site
	}
	msg, mark := claim.Encode(events.InstantOf(time.Now()))
	claim.Mark = mark
	subject := events.TagSubject(deps.Node.Site.Name, l.directory.id)
	seq, err := l.log.Append(ctx, subject, msg, l.tail.LastSequence())
	if err != nil {
		return mark, fmt.Errorf("claim tag %d: %w", tag, err)
	}
	l.claim.Store(&claim)
	logged(mark)
	l.tail.Logged(&claim, seq, len(msg))
	return mark, nil
}

// nextTag logs a tag that the writer has numbered. A site that was given another number
// meanwhile must not use its former one: another site may have it.
func (l *life) nextTag(ctx context.Context, tag events.Tag, reason events.TagReason) (events.Mark, error) {
	self, err := site.Current(ctx, l.directory.service.deps.Bus)
	if err != nil {
		return events.Mark{}, err
	}
	if self.Number != tag.Site() {
		return events.Mark{}, fmt.Errorf("claim tag %d: the site has number %d now", tag, self.Number)
	}
	return l.logClaim(ctx, tag, reason, func(events.Mark) {})
}

func (l *life) newWriter(claim events.Mark) *writer {
	deps := l.directory.service.deps
	entries := events.EntriesSubject(deps.Node.Site.Name, l.directory.id)
	w := newWriter(l.replica, l.log, l.tail, entries, deps.Settings, claim)
	w.claim = l.nextTag
	w.full = func(full bool) {
		l.directory.becameFull(full)
		if full {
			l.tail.Hurry()
		}
	}
	return w
}
