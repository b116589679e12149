package holder

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
	"tidemark/internal/tail"
)

const (
	// tagsSent bounds the tags that a follower starts with: enough to compare chains.
	tagsSent = 256
	// objectsListed bounds one page of a list of objects.
	objectsListed = 8192
	// copiesMax bounds the objects that one source reads at a time.
	copiesMax = 16
)

// SyncBeginReply tells a follower where to start. From then on nothing that it needs is
// trimmed.
type SyncBeginReply struct {
	Site   string `json:"site"`
	Stream string `json:"stream"` // the directory's journal
	// Disconnected tells a follower that the journal no longer waits for it, and does not
	// let it in: it must sync again. Nothing else is said then.
	Disconnected bool `json:"disconnected,omitempty"`
	// Start is where the source's replica stands: a follower that is empty copies the
	// objects of its images and replays from its mark.
	Start replica.SyncStart `json:"start"`
}

// SyncSource lets followers copy a directory's objects.
type SyncSource struct {
	Copy
	Site   string
	Stream string
	// Complete reports whether the copy holds what its versions say. After a crash its
	// files may be ahead of them until it has replayed what it had applied before.
	Complete  func() bool
	Followers Followers
}

// Followers knows who may follow a site's directories, and who does.
type Followers interface {
	// Admit returns an error if a site may not follow the directories of a pool.
	Admit(pool, site string) error
	// Disconnected reports whether a directory's journal no longer waits for a client:
	// what it needs may be gone.
	Disconnected(id events.DirectoryID, client string) bool
	// Register makes a follower known before anything that it needs can be trimmed;
	// [tail.ErrTrimmed] if it was trimmed already.
	Register(ctx context.Context, f events.PositionCommitted) error
}

// Handlers answer SyncBegin, SyncCheck, SyncObjects and SyncObject.
func (s SyncSource) Handlers() []api.Handler {
	copying := copies{source: s, slots: make(chan struct{}, copiesMax)}
	return []api.Handler{
		api.On(api.HolderSubject(s.ID, api.SyncBegin), s.begin),
		api.On(api.HolderSubject(s.ID, api.SyncCheck), s.check),
		api.On(api.HolderSubject(s.ID, api.SyncObjects), s.objects),
		api.OnSeries(api.HolderSubject(s.ID, api.SyncObject), copying.send),
	}
}

func (s SyncSource) begin(ctx context.Context, r api.SyncBeginRequest) (SyncBeginReply, error) {
	if err := events.CheckName(r.Client); err != nil {
		return SyncBeginReply{}, fault.New(fault.Usage, "client: %w", err)
	}
	if err := s.Followers.Admit(s.Name.Pool, r.Site); err != nil {
		return SyncBeginReply{}, err
	}
	if r.Mark != (events.Mark{}) && s.Followers.Disconnected(s.ID, r.Client) {
		return SyncBeginReply{Site: s.Site, Stream: s.Stream, Disconnected: true}, nil
	}
	if !s.Complete() {
		return SyncBeginReply{}, fault.New(fault.NotReady, "the copy of %s at site %s is not complete yet", s.Name, s.Site)
	}
	// The start below is at or after what this replica has committed, so it is still in
	// the journal when the follower asks for it.
	mark := r.Mark
	if mark == (events.Mark{}) {
		mark, _ = s.Replica.Committed()
	}
	err := s.Followers.Register(ctx, events.PositionCommitted{Directory: s.ID, Client: r.Client, Site: r.Site, Mark: mark})
	switch {
	case errors.Is(err, tail.ErrTrimmed) && r.Mark != (events.Mark{}):
		return SyncBeginReply{Site: s.Site, Stream: s.Stream, Disconnected: true}, nil
	case err != nil:
		return SyncBeginReply{}, err
	}
	start, err := s.Replica.SyncStart()
	if err != nil {
		return SyncBeginReply{}, err
	}
	start.Tags = start.Tags[max(0, len(start.Tags)-tagsSent):]
	return SyncBeginReply{Site: s.Site, Stream: s.Stream, Start: start}, nil
}

func (s SyncSource) check(_ context.Context, r api.SyncCheckRequest) (api.SyncCheckReply, error) {
	if err := s.Followers.Admit(s.Name.Pool, r.Site); err != nil {
		return api.SyncCheckReply{}, err
	}
	return api.SyncCheckReply{Disconnected: s.Followers.Disconnected(s.ID, r.Client)}, nil
}

func (s SyncSource) objects(_ context.Context, r api.SyncObjectsRequest) (api.SyncObjectsReply, error) {
	image, ok := s.Replica.Image(r.Image)
	if !ok {
		return api.SyncObjectsReply{}, fault.New(fault.NotFound, "there is no image %d", r.Image)
	}
	reply := api.SyncObjectsReply{Objects: []uint64{}}
	for index := range image.Objects() {
		if index < r.From {
			continue
		}
		if len(reply.Objects) == objectsListed {
			reply.Next = index
			break
		}
		reply.Objects = append(reply.Objects, index)
	}
	return reply, nil
}

// copies sends objects, a bounded number at a time, each read into a buffer that is used
// again.
type copies struct {
	source SyncSource
	slots  chan struct{}
	spare  sync.Pool
}

func (c *copies) send(ctx context.Context, r api.SyncObjectRequest, send func([]byte) error) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	image, ok := c.source.Replica.Image(r.Image)
	if !ok {
		return fault.New(fault.NotFound, "there is no image %d", r.Image)
	}
	buf, ok := c.spare.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	defer c.spare.Put(buf)
	object, err := image.CopyObject(r.Index, *buf)
	if err != nil {
		return err
	}
	*buf = object.Data[:0]
	return sendParts(r, object, send)
}

func sendParts(r api.SyncObjectRequest, object replica.ObjectCopy, send func([]byte) error) error {
	blocks := make([]byte, 0, 8*len(object.Blocks))
	for _, word := range object.Blocks {
		blocks = binary.LittleEndian.AppendUint64(blocks, word)
	}
	parts := max(1, (len(object.Data)+events.ObjectPartBytesMax-1)/events.ObjectPartBytesMax)
	data := object.Data
	for part := range parts {
		n := min(len(data), events.ObjectPartBytesMax)
		message := events.ObjectPart{
			Image: r.Image, Index: r.Index, Version: object.Version,
			AtLeast: object.AtLeast, AtMost: object.AtMost,
			Part: uint32(part), Parts: uint32(parts), Blocks: blocks, Data: data[:n],
		}
		if err := send(message.Encode()); err != nil {
			return err
		}
		data, blocks = data[n:], nil
	}
	return nil
}
