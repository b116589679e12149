package lineage

import "tidemark/events"

// Verdict is what a copy does about a source that it would follow.
type Verdict string

// The verdicts, from the side of the copy, which is called ours.
const (
	Follow Verdict = "follow"
	// GiveUp: the copy first gives up what it holds behind the common mark. That is claims
	// alone: its images are at that mark what they are now.
	GiveUp    Verdict = "give_up"
	Await     Verdict = "await" // the source has to come to what the copy has first
	Parted    Verdict = "parted"
	Forgotten Verdict = "forgotten" // what would tell was
	Foreign   Verdict = "foreign"   // it is another directory of that name
)

// Authority is what a source speaks for.
type Authority uint8

// The authorities of sources.
const (
	Alone Authority = iota // it hears of no primary: nobody needs what it has claimed
	Hears                  // it follows the primary, and holds what that has, as far as it came
	Owns                   // it is the primary
)

// Decide says what ours does about theirs, which is not said by messages but by tags and ends.
//
// Only entries can be lost, never claims that no entry follows. So of histories that have
// parted by claims alone a primary's stays, else the one with more entries, else the one with
// later claims. That is an order of all histories ([Less]): copies that follow each other end
// with one of them, and none goes back and forth.
func Decide(ours, theirs History, r Relation, source Authority) Verdict {
	switch r.Kind {
	case Same, Behind:
		return Follow
	case Ahead:
		return ahead(theirs, r, source)
	case Diverged:
		return diverged(ours, theirs, r, source)
	case OtherLife:
		return Foreign
	case Unknown:
	}
	return Forgotten
}

// ahead decides about a source whose history ends in ours. What its owner has gone on with it
// may get, or apply, in a moment. What another site claimed over that owner it never gets.
func ahead(theirs History, r Relation, source Authority) Verdict {
	owner := theirs.owner()
	switch {
	case source > Alone && owner != "" && r.Ours.ClaimsOnly() && r.Ours.startsElsewhere(owner):
		return GiveUp
	case source == Owns:
		return Follow
	}
	return Await
}

func diverged(ours, theirs History, r Relation, source Authority) Verdict {
	switch {
	case !r.Exact:
		return Parted
	case r.Ours.ClaimsOnly() && (source > Alone || !r.Theirs.ClaimsOnly() || Less(ours.End, theirs.End)):
		return GiveUp
	case r.Theirs.ClaimsOnly() && source == Alone:
		return Await
	}
	return Parted
}

// startsElsewhere reports whether the first of the tags was claimed by another site.
func (r Rest) startsElsewhere(site string) bool { return len(r.Tags) > 0 && r.Tags[0].Site != site }

// owner returns the site that claimed a history's last tag; empty if nobody owns it.
func (h History) owner() string {
	if n := len(h.Tags); n > 0 && h.Tags[n-1].Reason != events.TagDemoted {
		return h.Tags[n-1].Site
	}
	return ""
}

// Less reports whether a copy that ends at a holds less than one that ends at b. Of one history
// that is the earlier end.
func Less(a, b events.Mark) bool {
	if a.Entries != b.Entries {
		return a.Entries < b.Entries
	}
	return a.Position < b.Position
}
