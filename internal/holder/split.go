package holder

import (
	"context"
	"fmt"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/lineage"
	"tidemark/internal/replica"
	"tidemark/internal/site"
	"tidemark/internal/tail"
)

// splitTags bounds the tags that a description of a split brain names for each side.
const splitTags = 8

// Parting is what there is to describe a split brain from.
type Parting struct {
	Self    site.Site
	Name    events.DirectoryName
	Replica *replica.Replica
	Journal *bus.Log // ours
	Primary bool     // we are
	Ours    lineage.History
	Theirs  lineage.History
	// TheirsPrimary: so are they.
	TheirsPrimary bool
	Relation      lineage.Relation
}

// Describe says how two histories have parted, and what resolves it. What cannot be found
// out is left out.
func (p Parting) Describe(ctx context.Context, at Holding) *api.Split {
	common := p.Relation.Common
	s := &api.Split{
		Peer: at.Peer.Site, Common: common.Position, CommonExact: p.Relation.Exact, CommonTime: p.commonTime(ctx),
		Ours:   p.side(p.Self.Name, p.Primary, p.Ours.End, p.Relation.Ours, at.Peer),
		Theirs: p.side(at.Peer.Site, p.TheirsPrimary, p.Theirs.End, p.Relation.Theirs, at.Peer),
	}
	s.Ours.Objects = p.Replica.ChangedSince(common.Position)
	s.Theirs.Objects, _ = at.changed(ctx, common.Position)
	s.Resolve = []string{
		giveUp(p.Name, p.Self.Name, at.Peer.Site, p.Primary),
		giveUp(p.Name, at.Peer.Site, p.Self.Name, p.TheirsPrimary),
	}
	return s
}

func (p Parting) side(name string, primary bool, end events.Mark, rest lineage.Rest, peer events.PeerAdded) api.SplitSide {
	side := api.SplitSide{
		Site: name, Primary: primary, End: end.Position, Tags: []api.SplitTag{}, Entries: rest.Entries, Bytes: rest.Bytes,
	}
	for _, t := range rest.Tags[:min(len(rest.Tags), splitTags)] {
		owner := t.Site
		switch owner {
		case p.Self.UUID:
			owner = p.Self.Name
		case peer.Peer:
			owner = peer.Site
		}
		side.Tags = append(side.Tags, api.SplitTag{Tag: t.Tag, Reason: t.Reason, Site: owner, At: t.Mark.Time})
	}
	return side
}

// giveUp is what is said at a site whose changes are given up for those of another.
func giveUp(name events.DirectoryName, at, keep string, primary bool) string {
	line := fmt.Sprintf("tidemark mirror resync %s", name)
	if primary {
		line = fmt.Sprintf("tidemark mirror demote %s && %s", name, line)
	}
	return fmt.Sprintf("%s # at %s: keeps the history of %s", line, at, keep)
}

// commonTime looks in our journal when the common position was written; zero if that is
// not known any more.
func (p Parting) commonTime(ctx context.Context) events.Instant {
	common := p.Relation.Common
	for _, t := range p.Ours.Tags {
		if t.Mark.Same(common) {
			return t.Mark.Time
		}
	}
	m, err := tail.Ending(ctx, p.Journal, common)
	if err != nil || m == nil {
		return 0
	}
	return m.Ends().Time
}

// Summary is one line about a split brain.
func Summary(s *api.Split) string {
	return fmt.Sprintf("the histories of %s and %s have parted at %v: since then %d entries (%d bytes) here and %d entries (%d bytes) there",
		s.Ours.Site, s.Theirs.Site, s.Common, s.Ours.Entries, s.Ours.Bytes, s.Theirs.Entries, s.Theirs.Bytes)
}

// Owns reports whether the site of a UUID is the one that owns a history's last tag.
func Owns(h lineage.History, site string) bool {
	n := len(h.Tags)
	return n > 0 && h.Tags[n-1].Site == site && h.Tags[n-1].Reason != events.TagDemoted
}
