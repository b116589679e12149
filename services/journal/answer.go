package journal

import (
	"context"
	"errors"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/replica"
)

// copy is what is asked about without changing it.
func (l *life) copy() holder.Copy {
	return holder.Copy{
		ID: l.directory.id, Name: l.directory.name, Replica: l.replica, Conflicts: l.conflicts,
		Settled: l.operations.settled, Journal: l.journal(),
	}
}

// handlers answer the requests about the directory while it is ready.
func (l *life) handlers() []api.Handler {
	c := l.copy()
	handlers := c.Handlers()
	handlers = append(handlers, l.imageHandlers(c)...)
	handlers = append(handlers, l.snapshotHandlers(c)...)
	handlers = append(handlers, holder.RefuseVerify(l.directory.id, l.directory.name))
	return append(handlers, l.journalHandlers()...)
}

// on makes a handler of a function that changes the directory. show describes the result.
func on[Request, Reply any](l *life, request string, change func(context.Context, Request) error, show func(Request) (Reply, error)) api.Handler {
	return api.On(api.HolderSubject(l.directory.id, request), func(ctx context.Context, r Request) (Reply, error) {
		var none Reply
		if err := change(ctx, r); err != nil {
			return none, l.directory.refuse(err)
		}
		return show(r)
	})
}

func nothing[Request any](Request) (api.Nothing, error) { return api.Nothing{}, nil }

// imageHandlers answer what is said about images.
func (l *life) imageHandlers(c holder.Copy) []api.Handler {
	return []api.Handler{
		on(l, api.ImageCreate, l.createImage, func(r api.ImageCreateRequest) (api.Image, error) { return c.Image(r.Image) }),
		on(l, api.ImageResize, l.resizeImage, func(r api.ImageResizeRequest) (api.Image, error) { return c.Image(r.Image) }),
		on(l, api.ImageRemove, l.removeImage, nothing),
		on(l, api.ImageRename, l.renameImage, func(r api.ImageNameRequest) (api.Image, error) { return c.Image(r.NewName) }),
		on(l, api.ImageLink, l.linkImage, func(r api.ImageNameRequest) (api.Image, error) { return c.Image(r.Image) }),
		on(l, api.ImageClone, l.cloneImage, func(r api.ImageCloneRequest) (api.Image, error) { return c.Image(r.NewName) }),
		on(l, api.ImageFeature, l.changeFeature, func(r api.ImageFeatureRequest) (api.Image, error) { return c.Image(r.Image) }),
		on(l, api.ImageFill, l.fillImage, nothing),
		on(l, api.ImageCompare, l.compareImage, nothing),
		on(l, api.MetadataSet, l.setMetadata, nothing),
		on(l, api.MetadataUnset, l.unsetMetadata, nothing),
		api.OnLong(api.HolderSubject(l.directory.id, api.ImageFlatten),
			func(ctx context.Context, r api.ImageRequest, tell func(api.Progress)) (api.Image, error) {
				if err := l.flattenImage(ctx, r, tell); err != nil {
					return api.Image{}, l.directory.refuse(err)
				}
				return c.Image(r.Image)
			}),
	}
}

// snapshotHandlers answer what is said about snapshots.
func (l *life) snapshotHandlers(c holder.Copy) []api.Handler {
	shown := func(ctx context.Context, r api.SnapRequest, change func(context.Context, api.SnapRequest) ([]string, error), name string) (api.Snapshot, error) {
		images, err := change(ctx, r)
		if err != nil {
			return api.Snapshot{}, l.directory.refuse(err)
		}
		return shownSnapshot(c, images[0], name)
	}
	id := l.directory.id
	return []api.Handler{
		api.On(api.HolderSubject(id, api.SnapCreate), func(ctx context.Context, r api.SnapRequest) ([]api.Snapshot, error) {
			made, err := l.createSnapshot(ctx, r)
			return made, l.directory.refuse(err)
		}),
		on(l, api.SnapRemove, l.removeSnapshot, nothing),
		on(l, api.SnapRollback, l.rollback, nothing),
		on(l, api.SnapLimit, l.limitSnapshots, nothing),
		api.On(api.HolderSubject(id, api.SnapProtect), func(ctx context.Context, r api.SnapRequest) (api.Snapshot, error) {
			return shown(ctx, r, l.protectSnapshot, r.Snapshot)
		}),
		api.On(api.HolderSubject(id, api.SnapUnprotect), func(ctx context.Context, r api.SnapRequest) (api.Snapshot, error) {
			return shown(ctx, r, l.unprotectSnapshot, r.Snapshot)
		}),
		api.On(api.HolderSubject(id, api.SnapRename), func(ctx context.Context, r api.SnapRenameRequest) (api.Snapshot, error) {
			rename := func(ctx context.Context, from api.SnapRequest) ([]string, error) {
				return l.renameSnapshot(ctx, from, r.NewName)
			}
			return shown(ctx, api.SnapRequest{Image: r.Image, Snapshot: r.Snapshot}, rename, r.NewName)
		}),
	}
}

// shownSnapshot describes one snapshot.
func shownSnapshot(c holder.Copy, image, name string) (api.Snapshot, error) {
	all, err := c.Snapshots(image)
	if err != nil {
		return api.Snapshot{}, err
	}
	for _, s := range all {
		if s.Snapshot == name {
			return s, nil
		}
	}
	return api.Snapshot{}, fault.New(fault.NotFound, "image %q has no snapshot %q any more", image, name)
}

// sourceHandlers let followers copy and follow the directory.
func (l *life) sourceHandlers(reason events.TagReason) []api.Handler {
	deps := l.directory.service.deps
	source := holder.SyncSource{
		Copy:       holder.Copy{ID: l.directory.id, Name: l.directory.name, Replica: l.replica},
		Site:       l.directory.service.deps.Node.Site.Name,
		Stream:     l.log.Name(),
		Complete:   func() bool { return reason != events.TagLost || l.claimed() }, // everything was replayed before
		Followers:  holder.Gate{Service: l.directory.service.shared, Tail: l.tail},
		Compaction: l.compaction,
	}
	reports := holder.Reports{Bus: deps.Bus, Site: deps.Node.Site.UUID, Directory: l.directory.id}
	return append(source.Handlers(), reports.Handlers()...)
}

// refuse says which directory an error is about and keeps its code.
func (d *directory) refuse(err error) error {
	var coded *fault.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &coded):
		return fault.New(coded.Code, "%s: %w", d.name, err)
	case errors.Is(err, replica.ErrNotFound):
		return fault.New(fault.NotFound, "%s: %w", d.name, err)
	}
	return fault.New(fault.Internal, "%s: %w", d.name, err)
}

// answerStatus answers for the directory's state whatever it is; the returned function
// ends that.
func (d *directory) answerStatus(ctx context.Context) (stop func(), err error) {
	return api.Serve(ctx, d.service.deps.Bus.Conn(), d.log,
		api.On(api.HolderSubject(d.id, api.DirectoryStatus), func(ctx context.Context, _ api.Nothing) (api.Status, error) {
			return d.status(ctx)
		}))
}

// status describes the directory, and asks for the size of its journal.
func (d *directory) status(ctx context.Context) (api.Status, error) {
	if l, err := d.current(); err == nil {
		if _, err := l.log.State(ctx); err != nil {
			return api.Status{}, err
		}
	}
	return d.standing(), nil
}

// standing describes the directory from what is known here.
func (d *directory) standing() api.Status {
	self := d.service.deps.Node
	s := api.Status{
		ID: d.id, Name: d.name.String(), Node: self.Name, Role: events.Master,
		Primary: self.Site.Name, Owner: self.Site.Name, Durability: d.service.deps.Durability, Clients: []api.Client{},
	}
	d.mu.Lock()
	l, full := d.life, d.full
	s.State = string(d.state)
	if d.err != nil {
		s.Error = d.err.Error()
	}
	d.mu.Unlock()
	if !State(s.State).serves() {
		return s
	}
	s.Split = d.split()
	if full {
		s.State = "full"
		s.Error = "the journal is full: writers wait until a client has caught up or is removed"
	}
	l.describe(&s)
	return s
}

// describe adds what only a directory that takes requests knows.
func (l *life) describe(s *api.Status) {
	marks := l.tail.Marks()
	s.Tag = l.claim.Load().Tag
	s.Position, s.Safe, s.Applied, s.Committed = marks.Logged, marks.Safe, marks.Applied, marks.Committed
	s.Clients = describeClients(l.consumers(), marks.Logged)
	s.Stream = l.log.Name()
	s.Bytes, s.BytesLimit = l.log.Size()
	s.Since = l.log.Since()
}

// describeClients describes the consumers of a journal that reaches to head.
func describeClients(known []events.PositionCommitted, head events.Mark) []api.Client {
	clients := []api.Client{}
	for _, f := range known {
		clients = append(clients, api.Client{
			ID: f.Client, Role: f.Role, State: f.State, Position: f.Mark.Position,
			Entries: head.Entries - min(f.Mark.Entries, head.Entries),
			Bytes:   head.Bytes - min(f.Mark.Bytes, head.Bytes), Seen: f.At,
		})
	}
	return clients
}
