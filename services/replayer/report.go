package replayer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/nbd"
	"tidemark/internal/replica"
)

func (f *follower) setProgress(m *meter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.progress = m
}

// handlers answer the requests about the directory's images while its copy is open.
func (f *follower) handlers(own *ownCopy) []api.Handler {
	images := holder.Copy{
		ID: f.id, Name: f.name, Replica: own.replica, ReadOnly: true, Conflicts: own.conflicts,
		Journal: &holder.Journal{Log: own.journal, Info: api.Journal{Durability: f.service.deps.Durability}, Condition: f.journalState},
	}
	source := holder.SyncSource{
		Copy: images, Site: f.service.deps.Node.Site.Name, Stream: own.journal.Name(), Complete: own.complete,
		Followers: holder.Gate{Service: f.service.shared, Tail: own.tail}, Compaction: own.compaction,
	}
	verify := api.OnLong(api.HolderSubject(f.id, api.MirrorVerify),
		func(ctx context.Context, r api.VerifyRequest, tell func(api.Progress)) (api.Verified, error) {
			return f.verify(ctx, own, r, tell)
		})
	reports := holder.Reports{Bus: f.service.deps.Bus, Site: f.service.deps.Node.Site.UUID, Directory: f.id}
	return slices.Concat(images.Handlers(), images.Refusals(), source.Handlers(), reports.Handlers(), []api.Handler{verify})
}

// journalState says how far this site's copy of the journal has come, and who follows it.
func (f *follower) journalState() holder.Condition {
	f.mu.Lock()
	own := f.own
	now := holder.Condition{State: string(f.state), Cause: f.err}
	f.mu.Unlock()
	if own != nil {
		now.Head = own.tail.Marks().Logged
	}
	now.Clients = f.service.clients.Of(f.id)
	return now
}

// answerStatus answers for the directory's state whatever it is; the returned function
// ends that.
func (f *follower) answerStatus(ctx context.Context) (stop func(), err error) {
	return api.Serve(ctx, f.service.deps.Bus.Conn(), f.log,
		api.On(api.HolderSubject(f.id, api.DirectoryStatus), func(ctx context.Context, _ api.Nothing) (api.Status, error) {
			return f.status(ctx)
		}))
}

// status describes the directory, and asks for the size of its journal.
func (f *follower) status(ctx context.Context) (api.Status, error) {
	if own := f.copy(); own != nil {
		if _, err := own.journal.State(ctx); err != nil && !errors.Is(err, bus.ErrNotFound) { // it may just be begun anew
			return api.Status{}, err
		}
	}
	return f.described(), nil
}

// described describes the directory from one reading of its marks.
func (f *follower) described() api.Status {
	deps := f.service.deps
	s := api.Status{
		ID: f.id, Name: f.name.String(), Node: deps.Node.Name, Role: events.Slave,
		Clients: []api.Client{}, Durability: deps.Durability,
	}
	f.mu.Lock()
	own := f.own
	s.State, s.Progress = string(f.state), f.progress.progress(time.Now())
	s.Failures, s.Recoveries = f.tally.failures, f.tally.recoveries
	if f.err != nil {
		s.Error = f.err.Error()
	}
	s.Primary = f.primary()
	s.Owner = s.Primary
	f.mu.Unlock()
	if own == nil {
		return s
	}
	marks := own.tail.Marks()
	s.Position, s.Safe, s.Applied, s.Committed = marks.Logged, marks.Safe, marks.Applied, marks.Committed
	s.Tag, s.Stream = marks.Applied.Position.Tag(), own.journal.Name()
	s.Bytes, s.BytesLimit = own.journal.Size()
	s.Since = own.journal.Since()
	applied := marks.Applied
	if !own.replica.Consistent() { // it stands nowhere until it is complete
		applied = events.Mark{}
		if s.State == string(Replaying) {
			s.State = string(Syncing)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.Lag = f.view(applied).lag(time.Now())
	ahead := f.ahead(own.received())
	s.Ahead = &ahead
	if s.Split = f.split; s.Split != nil && (s.State == string(Stopped) || s.State == string(Errored)) {
		s.State = string(SplitBrain) // as long as nobody says otherwise
		s.Error = holder.Summary(s.Split)
	}
	if s.State == string(Replaying) && !f.heardAtAll() && s.Lag.Unheard == 0 {
		s.State = string(Stopped) // connected, and within a second it is known how far there is to go
	}
	if s.State == string(Replaying) && (f.raised.stalled || s.Lag.Unheard > 0) {
		s.State = "stalled"
	}
	switch {
	case s.Error != "":
	case s.Lag.Unheard > 0:
		s.Error = fmt.Sprintf("the primary has not been heard for %.0fs: how far it is ahead is not known", s.Lag.Unheard)
	case s.State == "stalled":
		s.Error = fmt.Sprintf("%d entries behind, and nothing is applied", s.Lag.Entries)
	}
	return s
}

// standings describes the directories that this node follows, and how they are to be followed.
func (s *Service) standings() []api.Standing {
	held := s.held()
	all := make([]api.Standing, len(held))
	for i, f := range held {
		settings := s.settings(f.id)
		all[i] = api.Standing{Status: f.described(), Following: api.Following{
			Delay: settings.Delay.Seconds(), TargetRPO: settings.TargetRPO.Seconds(), Limit: settings.SyncRate,
		}}
	}
	return all
}

// Exports returns the images of the directories that this node follows, read-only.
func (s *Service) Exports() nbd.Exports { return holder.Exports[*follower]{Held: s.held} }

// DirectoryName implements [holder.Held].
func (f *follower) DirectoryName() events.DirectoryName { return f.name }

// Served implements [holder.Held]. A copy whose first sync has not ended is not served: it
// is no disk that ever was.
func (f *follower) Served() (*replica.Replica, error) {
	own, err := f.served()
	if err != nil {
		return nil, err
	}
	return own.replica, nil
}

func (f *follower) served() (*ownCopy, error) {
	own := f.copy()
	if own == nil || !own.complete() {
		return nil, fault.New(fault.NotReady, "the copy of %s here is not complete yet", f.name)
	}
	return own, nil
}

// Kept implements [holder.Held].
func (f *follower) Kept() *holder.Conflicts {
	if own := f.copy(); own != nil {
		return own.conflicts
	}
	return nil
}

// Export implements [holder.Held].
func (f *follower) Export(_ context.Context, name events.ImageName) (nbd.Device, error) {
	own, err := f.served()
	if err != nil {
		return nil, err
	}
	return holder.OpenReadOnly(own.replica, name, own.ended, func() {})
}
