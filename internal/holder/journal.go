package holder

import (
	"context"
	"errors"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
)

// trimsMax is how many trims of a log may come between looking where it begins and reading
// what stands there.
const trimsMax = 5

// Journal is what a copy's journal is asked about.
type Journal struct {
	// Info holds what the copy itself does not know: settings and limits.
	Info api.Journal
	Log  *bus.Log
	// Condition says what changes from moment to moment.
	Condition func() Condition
}

// Condition is what a journal is in.
type Condition struct {
	State   string                     // of the directory
	Cause   error                      // of the state, if there is one
	Head    events.Mark                // how far the journal reaches
	Clients []events.PositionCommitted // that consume it
}

// handlers answer JournalInfo, JournalStatus and JournalTags.
func (j *Journal) handlers(c Copy) []api.Handler {
	return []api.Handler{
		api.On(api.HolderSubject(c.ID, api.JournalInfo), func(context.Context, api.Nothing) (api.Journal, error) {
			info := j.Info
			info.Directory, info.Name, info.History = c.ID, c.Name.String(), c.Replica.Identity().History
			info.Stream = j.Log.Name()
			return info, nil
		}),
		api.On(api.HolderSubject(c.ID, api.JournalStatus), func(ctx context.Context, _ api.Nothing) (api.JournalState, error) {
			return j.status(ctx)
		}),
		on(c, api.JournalTags, func(api.Nothing) ([]api.Tag, error) { return describeTags(c.Replica.Tags()), nil }),
	}
}

func (j *Journal) status(ctx context.Context) (api.JournalState, error) {
	log, err := j.Log.State(ctx)
	if err != nil {
		return api.JournalState{}, err
	}
	now := j.Condition()
	head := now.Head
	s := api.JournalState{
		State: now.State, Tag: head.Position.Tag(), Entry: head.Position.Entry(), Entries: head.Entries, Bytes: log.Bytes,
		Clients: []api.JournalClient{},
	}
	if now.Cause != nil {
		s.Error = now.Cause.Error()
	}
	for _, f := range now.Clients {
		s.Clients = append(s.Clients, api.JournalClient{
			ID: f.Client, State: f.State, Commit: tagEntry(f.Mark.Position), Seen: f.At,
			Entries: head.Entries - min(f.Mark.Entries, head.Entries),
			Bytes:   head.Bytes - min(f.Mark.Bytes, head.Bytes),
		})
	}
	s.Minimum, err = j.minimum(ctx, log)
	return s, err
}

// minimum returns the first position that the log still holds; zero for an empty one. The
// log may be trimmed since it had the state.
func (j *Journal) minimum(ctx context.Context, state bus.State) (events.Position, error) {
	for try := 0; ; try++ {
		if state.First > state.Last {
			return 0, nil
		}
		m, err := j.Log.Get(ctx, state.First)
		switch {
		case err == nil:
			return firstPosition(m)
		case !errors.Is(err, bus.ErrNotFound):
			return 0, err
		case try == trimsMax:
			return 0, fault.New(fault.NotReady, "the journal is being trimmed all the time; ask again: %w", err)
		}
		if state, err = j.Log.State(ctx); err != nil {
			return 0, err
		}
	}
}

// firstPosition returns where a message of a journal begins.
func firstPosition(m bus.Message) (events.Position, error) {
	message, err := events.DecodeJournal(m.Data)
	if err != nil {
		return 0, err
	}
	if batch, ok := message.(*events.Batch); ok {
		return batch.Position(0), nil
	}
	return message.Ends().Position, nil
}

func describeTags(tags []events.TagClaimed) []api.Tag {
	all := make([]api.Tag, len(tags))
	for i, t := range tags {
		all[i] = api.Tag{
			Tag: t.Tag, Reason: t.Reason, Site: t.Site, Node: t.Node,
			Predecessor: tagEntry(t.Predecessor.Position), Chain: t.Predecessor.Chain, At: t.Mark.Time,
		}
	}
	return all
}

func tagEntry(p events.Position) api.TagEntry { return api.TagEntry{Tag: p.Tag(), Entry: p.Entry()} }
