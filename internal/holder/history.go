package holder

import (
	"context"
	"slices"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/lineage"
	"tidemark/internal/replica"
)

const (
	// tagsPerPage bounds the tags of one answer: each takes less than 1 KiB.
	tagsPerPage = 256
	// tagPagesMax bounds how far back another site's tags are asked for.
	tagPagesMax = 64
)

// history answers HistoryRead.
func (s SyncSource) history(_ context.Context, r api.HistoryRequest) (api.History, error) {
	if err := s.Followers.Admit(s.Name.Pool, r.Site); err != nil {
		return api.History{}, err
	}
	id, tags, end := s.Replica.History()
	reply := api.History{History: id, End: end}
	tags = since(tags, r.Known)
	if r.Below > 0 {
		tags = slices.DeleteFunc(tags, func(t events.TagClaimed) bool { return t.Tag >= r.Below })
	}
	first := max(0, len(tags)-tagsPerPage)
	reply.Tags, reply.More = tags[first:], first > 0
	if r.Changed {
		reply.Objects = s.Replica.ChangedSince(r.Since)
	}
	return reply, nil
}

// since leaves out the tags before a claim, if it is one of them.
func since(tags []events.TagClaimed, known events.Mark) []events.TagClaimed {
	for i, t := range tags {
		if t.Mark.Same(known) {
			return tags[i:]
		}
	}
	return tags
}

// HistoryOf returns what a copy knows of its history.
func HistoryOf(r *replica.Replica) lineage.History {
	id, tags, end := r.History()
	return lineage.History{ID: id, Tags: tags, End: end}
}

// TipOf returns where a copy's history ends; nil for one that holds no tag.
func TipOf(r *replica.Replica) *api.Tip {
	id, tags, end := r.History()
	if len(tags) == 0 {
		return nil
	}
	return &api.Tip{History: id, Claim: tags[len(tags)-1], End: end}
}

// leadsThrough reports whether a history is known to lead through the end of another.
func leadsThrough(h lineage.History, tip api.Tip) bool {
	return h.Covers(lineage.History{ID: tip.History, Tags: []events.TagClaimed{tip.Claim}, End: tip.End})
}

// Holding is a directory at another site.
type Holding struct {
	Conn      *nats.Conn
	Directory events.DirectoryID // there
	Peer      events.PeerAdded
	Self      string // UUID of the site that asks
}

// History asks for the directory's history there: as much of it as a comparison with ours
// needs.
func (h Holding) History(ctx context.Context, ours lineage.History) (lineage.History, error) {
	request := api.HistoryRequest{Site: h.Self}
	if n := len(ours.Tags); n > 0 {
		request.Known = ours.Tags[n-1].Mark
	}
	var theirs lineage.History
	for page := range tagPagesMax {
		reply, err := h.read(ctx, request)
		if err != nil {
			return theirs, err
		}
		if page == 0 {
			theirs.ID, theirs.End = reply.History, reply.End
		}
		theirs.Tags = append(reply.Tags, theirs.Tags...)
		if !reply.More || len(reply.Tags) == 0 || meets(reply.Tags, ours) {
			return theirs, nil
		}
		request.Below = reply.Tags[0].Tag
	}
	return theirs, nil
}

// meets reports whether one of tags is ours too: what lies before it is common.
func meets(tags []events.TagClaimed, ours lineage.History) bool {
	return slices.ContainsFunc(tags, func(t events.TagClaimed) bool {
		return slices.ContainsFunc(ours.Tags, func(own events.TagClaimed) bool { return own.Mark.Same(t.Mark) })
	})
}

// changed asks how many objects have changed there behind a position.
func (h Holding) changed(ctx context.Context, position events.Position) (uint64, error) {
	reply, err := h.read(ctx, api.HistoryRequest{Site: h.Self, Below: 1, Changed: true, Since: position})
	return reply.Objects, err
}

func (h Holding) read(ctx context.Context, r api.HistoryRequest) (api.History, error) {
	return api.Call[api.History](ctx, h.Conn, api.HolderSubject(h.Directory, api.HistoryRead), r)
}
