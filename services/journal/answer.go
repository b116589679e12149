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
		api.On(api.HolderSubject(id, api.DirectoryStatus), func(ctx context.Context, _ api.Nothing) (api.Status, error) {
			return l.status(ctx)
		}),
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
	source := holder.SyncSource{
		Copy: images, Site: l.directory.service.deps.Node.Site.Name, Stream: l.log.Name(), Register: l.register,
	}
	return append(handlers, source.Handlers()...)
}

// register makes a follower known before anything that it needs can be trimmed.
func (l *life) register(ctx context.Context, client string, mark events.Mark) error {
	return l.directory.service.register(ctx, events.PositionCommitted{
		Directory: l.directory.id, Client: client, Role: events.Slave, State: events.ClientConnected, Mark: mark,
	})
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

// status describes the directory while it is ready.
func (l *life) status(ctx context.Context) (api.Status, error) {
	d := l.directory
	marks := l.tail.Marks()
	state, err := l.log.State(ctx)
	if err != nil {
		return api.Status{}, err
	}
	s := api.Status{
		ID: d.id, Name: d.name.String(), Node: d.service.deps.Node.Name, Role: events.Master,
		Primary: d.service.deps.Node.Site.Name, Owner: d.service.deps.Node.Site.Name,
		Tag: l.claim.Tag, State: string(Ready),
		Position: marks.Logged, Safe: marks.Safe, Applied: marks.Applied, Committed: marks.Committed,
		Clients: d.service.clients(d.id, marks.Logged), Durability: d.service.deps.Durability,
		Stream: l.log.Name(), Bytes: state.Bytes, BytesLimit: state.MaxBytes,
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full != nil {
		s.State = "full"
		s.Error = "the journal is full: writers wait until a client has caught up or is disconnected"
	}
	return s, nil
}

// clients describes the consumers of a journal that reaches to head.
func (s *Service) clients(id events.DirectoryID, head events.Mark) []api.Client {
	clients := []api.Client{}
	for _, f := range s.positions.Clients(id) {
		clients = append(clients, api.Client{
			ID: f.Client, Role: f.Role, State: f.State, Position: f.Mark.Position,
			Entries: head.Entries - min(f.Mark.Entries, head.Entries),
			Bytes:   head.Bytes - min(f.Mark.Bytes, head.Bytes), Seen: f.At,
		})
	}
	return clients
}
