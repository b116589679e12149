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

// handlers answer the requests about the directory while it is ready.
func (l *life) handlers() []api.Handler {
	id := l.directory.id
	images := holder.Copy{ID: id, Name: l.directory.name, Replica: l.replica}
	handlers := append(images.Handlers(),
		api.On(api.HolderSubject(id, api.ImageCreate), func(ctx context.Context, r api.ImageCreateRequest) (api.Image, error) {
			if _, err := l.writer.createImage(ctx, r.Image, r.Size, r.ObjectSize); err != nil {
				return api.Image{}, l.directory.refuse(err)
			}
			return images.Image(r.Image)
		}),
		api.On(api.HolderSubject(id, api.ImageResize), func(ctx context.Context, r api.ImageResizeRequest) (api.Image, error) {
			if _, err := l.writer.resizeImage(ctx, r.Image, r.Size, r.AllowShrink); err != nil {
				return api.Image{}, l.directory.refuse(err)
			}
			return images.Image(r.Image)
		}),
		api.On(api.HolderSubject(id, api.ImageRemove), func(ctx context.Context, r api.ImageRequest) (api.Nothing, error) {
			err := l.writer.removeImage(ctx, r.Image, l.directory.openSessions)
			return api.Nothing{}, l.directory.refuse(err)
		}),
	)
	return handlers
}

// sourceHandlers let followers copy and follow the directory.
func (l *life) sourceHandlers() []api.Handler {
	return holder.SyncSource{
		Copy:       holder.Copy{ID: l.directory.id, Name: l.directory.name, Replica: l.replica},
		Site:       l.directory.service.deps.Node.Site.Name,
		Stream:     l.log.Name(),
		Complete:   func() bool { return true }, // everything was replayed before
		Followers:  holder.Gate{Service: l.directory.service.shared, Tail: l.tail},
		Compaction: l.compaction,
	}.Handlers()
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

// status describes the directory.
func (d *directory) status(ctx context.Context) (api.Status, error) {
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
	if s.State != string(Ready) {
		return s, nil
	}
	if full {
		s.State = "full"
		s.Error = "the journal is full: writers wait until a client has caught up or is removed"
	}
	return s, l.describe(ctx, &s)
}

// describe adds what only a directory that takes requests knows.
func (l *life) describe(ctx context.Context, s *api.Status) error {
	marks := l.tail.Marks()
	state, err := l.log.State(ctx)
	if err != nil {
		return err
	}
	s.Tag = l.claim.Load().Tag
	s.Position, s.Safe, s.Applied, s.Committed = marks.Logged, marks.Safe, marks.Applied, marks.Committed
	s.Clients = describeClients(l.directory.service.clients.Of(l.directory.id), marks.Logged)
	s.Stream, s.Bytes, s.BytesLimit = l.log.Name(), state.Bytes, state.MaxBytes
	return nil
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
