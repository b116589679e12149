package replayer

import (
	"time"

	"tidemark/events"
	"tidemark/internal/api"
)

// headsMissing is how long a primary may not be heard, which says every second how far it
// is, before that is told. Over a chain of sites its word is late by a second at each.
const headsMissing = 3500 * time.Millisecond

// view is one reading of how a copy and the primary that it follows stand, directly or
// through other followers.
type view struct {
	known   bool           // the primary was ever heard
	head    events.Mark    // how far it was logged then
	said    events.Instant // when that was, by its clock
	heard   time.Time      // and by ours; when the following began, if it never was
	level   time.Time      // when the copy was last seen to have all that the primary had; may be zero
	applied events.Mark    // by the copy; zero while it is not complete
	began   time.Time      // when this process began to follow
}

// lag returns how far the copy is behind: what it lacks of what was heard, and for how long
// it has. Clocks of two sites are never compared. While the primary is not heard, time
// passes all the same: it may have gone on. An idle one that is heard is never ahead.
func (v view) lag(now time.Time) api.Lag {
	var l api.Lag
	quiet := max(0, now.Sub(v.heard))
	if quiet > headsMissing {
		l.Unheard = quiet.Seconds()
	}
	if !v.known || v.applied.Position >= v.head.Position {
		l.Seconds = l.Unheard
		return l
	}
	l.Entries = v.head.Entries - min(v.applied.Entries, v.head.Entries)
	l.Bytes = v.head.Bytes - min(v.applied.Bytes, v.head.Bytes)
	behind := quiet
	if v.applied.Time != 0 {
		behind += max(0, v.said.Sub(v.applied.Time))
	} else if !v.began.IsZero() { // it has nothing yet, and lacks it for as long as it is filled
		behind = max(behind, now.Sub(v.began))
	}
	if !v.level.IsZero() { // what it lacks was written later than that
		behind = min(behind, now.Sub(v.level))
	}
	l.Seconds = max(0, behind.Seconds(), l.Unheard)
	return l
}

// heardOf returns what a head says of the primary: of itself, if it is the primary's own or
// there is none, else as its sender has heard last.
func heardOf(head *events.HeadAdvanced, now time.Time) (origin *events.HeadAdvanced, heard time.Time) {
	if head.Origin == nil {
		return head, now
	}
	translated := *head
	translated.Logged, translated.At = head.Origin.Logged, head.Origin.At
	return &translated, now.Add(-max(0, head.Origin.Age))
}

// origin returns what a follower passes on of the primary, nil when there is none: its
// history ends with a demotion.
func (f *follower) origin(own *ownCopy, now time.Time) *events.Origin {
	if tag := own.replica.Tag(); tag != nil && tag.Reason == events.TagDemoted {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	o := &events.Origin{Age: now.Sub(f.headAt), Site: f.primary()}
	if f.head != nil {
		o.Logged, o.At = f.head.Logged, f.head.At
	}
	return o
}

// primary names the site that owns the directory, as far as the source knows. It is called
// under the lock.
func (f *follower) primary() string {
	switch {
	case f.source == nil:
		return ""
	case f.source.owns():
		return f.source.peer.Site
	case f.unread != nil && f.unread.Origin != nil:
		return f.unread.Origin.Site
	}
	return ""
}

// view takes a reading. It is called under the lock.
func (f *follower) view(applied events.Mark) view {
	v := view{heard: f.headAt, level: f.level, applied: applied, began: f.began}
	if f.head != nil {
		v.known, v.head, v.said = true, f.head.Logged, f.head.At
		if v.said == 0 { // it was heard by an earlier process
			v.said = v.head.Time
		}
	}
	return v
}

// heardAtAll reports whether the primary was heard since this follower began: not only by an
// earlier one. It is called under the lock.
func (f *follower) heardAtAll() bool { return f.head != nil && f.head.At != 0 }

// behind is how far the copy is behind its primary.
func (f *follower) behind(now time.Time) api.Lag {
	applied := f.standing()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.view(applied).lag(now)
}

// standing returns how far the copy has applied its history; a copy that is not complete
// stands nowhere.
func (f *follower) standing() events.Mark {
	if own := f.copy(); own != nil && !own.replica.Consistent() {
		return events.Mark{}
	}
	return f.marks().Applied
}
