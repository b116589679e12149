package replayer

import (
	"context"
	"slices"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/nbd"
)

func (f *follower) setProgress(p *api.Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.progress = p
}

// handlers answer the requests about the directory while its copy is open.
func (f *follower) handlers(own *ownCopy) []api.Handler {
	images := holder.Copy{ID: f.id, Name: f.name, Replica: own.replica, ReadOnly: true}
	return append(append(images.Handlers(), images.Refusals()...),
		api.On(api.HolderSubject(f.id, api.DirectoryStatus),
			func(ctx context.Context, _ api.Nothing) (api.Status, error) { return f.status(ctx, own) }))
}

// status describes the directory from one reading of its marks.
func (f *follower) status(ctx context.Context, own *ownCopy) (api.Status, error) {
	journal, err := own.journal.State(ctx)
	if err != nil {
		return api.Status{}, err
	}
	marks := own.tail.Marks()
	deps := f.service.deps
	s := api.Status{
		ID: f.id, Name: f.name.String(), Node: deps.Node.Name, Role: events.Slave,
		Position: marks.Logged, Safe: marks.Safe, Applied: marks.Applied, Committed: marks.Committed,
		Tag: marks.Applied.Position.Tag(), Clients: []api.Client{}, Durability: deps.Durability,
		Stream: own.journal.Name(), Bytes: journal.Bytes, BytesLimit: journal.MaxBytes,
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.State, s.Progress = string(f.state), f.progress
	applied := marks.Applied
	if !own.replica.Consistent() { // it stands nowhere until it is complete
		applied = events.Mark{}
		if f.state == Replaying {
			s.State = string(Syncing)
		}
	}
	if f.err != nil {
		s.Error = f.err.Error()
	}
	if f.source != nil {
		s.Primary, s.Owner = f.source.peer.Site, f.source.peer.Site
	}
	if f.head != nil {
		s.Lag = lag(f.head.Logged, applied, f.level, time.Now())
	}
	return s, nil
}

// lag is how far a copy that has applied a history up to applied is behind a source
// that stands at head. Seconds count from when the copy was last level with it.
func lag(head, applied events.Mark, level, now time.Time) api.Lag {
	if applied.Position >= head.Position {
		return api.Lag{}
	}
	l := api.Lag{
		Entries: head.Entries - min(applied.Entries, head.Entries),
		Bytes:   head.Bytes - min(applied.Bytes, head.Bytes),
	}
	since := applied.Time.Time()
	if level.After(since) {
		since = level
	}
	l.Seconds = max(0, now.Sub(since).Seconds())
	return l
}

// Exports returns the images of the directories that this node follows, read-only.
func (s *Service) Exports() nbd.Exports { return exports{s} }

type exports struct{ service *Service }

// List implements [nbd.Exports].
func (e exports) List(context.Context) ([]string, error) {
	var names []string
	for _, f := range e.service.held() {
		own := f.copy()
		if own == nil || !own.replica.Consistent() {
			continue
		}
		for _, image := range own.replica.Images() {
			names = append(names, f.name.Join(image.Name))
		}
	}
	slices.Sort(names)
	return names, nil
}

// Open implements [nbd.Exports]. A copy whose first sync has not ended is not served:
// it is no disk that ever was.
func (e exports) Open(_ context.Context, name string) (nbd.Device, error) {
	image, err := events.ParseImage(name)
	if err != nil {
		return nil, fault.New(fault.NotFound, "export: %w", err)
	}
	for _, f := range e.service.held() {
		if f.name == image.DirectoryName {
			return f.export(image)
		}
	}
	return nil, fault.New(fault.NotFound, "this node serves no export %q", name)
}

func (f *follower) export(name events.ImageName) (nbd.Device, error) {
	own := f.copy()
	if own == nil || !own.replica.Consistent() {
		return nil, fault.New(fault.NotReady, "the copy of %s here is not complete yet", f.name)
	}
	image, ok := own.replica.Lookup(name.Image)
	if !ok || name.Snapshot != "" {
		return nil, fault.New(fault.NotFound, "there is no image %q", name)
	}
	return holder.ReadOnlyExport{View: holder.View{
		Name: name.String(), Image: image, ReadOnly: true, Gone: own.ended,
	}}, nil
}
