package holder

import (
	"context"
	"errors"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
)

// Reports keeps in POSITIONS what followers at other sites say of themselves. They publish
// nothing there on their own, so a follower can speak for clients of its own site alone, and
// what the log holds was written by this site.
type Reports struct {
	Bus       *bus.Bus
	Site      string // this site's UUID
	Directory events.DirectoryID
}

// Handlers answer PositionReport and PositionLast.
func (r Reports) Handlers() []api.Handler {
	return []api.Handler{
		api.On(api.HolderSubject(r.Directory, api.PositionReport), r.report),
		api.On(api.HolderSubject(r.Directory, api.PositionLast), r.last),
	}
}

func (r Reports) report(ctx context.Context, request api.PositionReportRequest) (api.PositionReportReply, error) {
	var reply api.PositionReportReply
	f := request.Position
	f.Directory, f.Registered, f.Role = r.Directory, false, events.Slave
	known, err := r.known(ctx, f.Client)
	switch {
	case err != nil:
		return reply, err
	case f.Site == r.Site || f.Site != known.site:
		return reply, fault.New(fault.Denied, "client %s is not of the site that reports for it", f.Client)
	}
	switch f.State {
	case events.ClientConnected, events.ClientDisconnected, events.ClientRemoved:
	default:
		return reply, fault.New(fault.Usage, "client %s: state %.20q", f.Client, string(f.State))
	}
	if request.Over == 0 {
		_, err = r.Bus.Publish(ctx, events.StreamPositions, &f)
		return reply, err
	}
	_, err = r.Bus.PublishOver(ctx, events.StreamPositions, request.Over, &f)
	if reply.Overtaken = errors.Is(err, bus.ErrOvertaken); reply.Overtaken {
		err = nil
	}
	return reply, err
}

func (r Reports) last(ctx context.Context, request api.PositionLastRequest) (api.PositionLastReply, error) {
	known, err := r.known(ctx, request.Client)
	return api.PositionLastReply{Sequence: known.sequence}, err
}

// word is the newest that is known of a client.
type word struct {
	site     string
	sequence uint64
}

// known returns the last word on a client; [fault.NotFound] if there is none.
func (r Reports) known(ctx context.Context, client string) (word, error) {
	if err := events.CheckName(client); err != nil {
		return word{}, fault.New(fault.Usage, "client: %w", err)
	}
	m, err := r.Bus.Last(ctx, events.StreamPositions, events.PositionSubject(r.Directory, client))
	if errors.Is(err, bus.ErrNotFound) {
		return word{}, fault.New(fault.NotFound, "the journal has no client %q", client)
	}
	if err != nil {
		return word{}, err
	}
	fact, err := events.Unmarshal(m.Data)
	f, ok := fact.(*events.PositionCommitted)
	if err != nil || !ok {
		return word{}, fault.New(fault.Corrupt, "what is known of client %q cannot be read", client)
	}
	return word{f.Site, m.Sequence}, nil
}
