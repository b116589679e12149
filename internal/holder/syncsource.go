package holder

import (
	"context"
	"encoding/binary"
	"encoding/json"
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
	// Linked tells a follower that said where its history ends that the one here leads through
	// there. Else its tip was for nothing, and it may not have been made known.
	Linked bool `json:"linked,omitempty"`
	// Hold names what keeps the source's layers together while the follower copies them;
	// zero for one that does not.
	Hold uint64 `json:"hold,omitempty"`
}

// SyncSource lets followers copy a directory's objects.
type SyncSource struct {
	Copy
	Site   string
	Stream string
	// Complete reports whether the copy holds what its versions say. After a crash its
	// files may be ahead of them until it has replayed what it had applied before.
	Complete   func() bool
	Followers  Followers
	Compaction *Compaction
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

// Handlers answer HistoryRead, SyncBegin, SyncCheck, SyncStart, SyncObjects, SyncObject and SyncEnd,
// and those who compare their copies.
func (s SyncSource) Handlers() []api.Handler {
	copying := copies{source: s, slots: make(chan struct{}, copiesMax)}
	return append([]api.Handler{
		api.On(api.HolderSubject(s.ID, api.SyncBegin), s.begin),
		api.On(api.HolderSubject(s.ID, api.SyncCheck), s.check),
		api.On(api.HolderSubject(s.ID, api.HistoryRead), s.history),
		api.On(api.HolderSubject(s.ID, api.SyncEnd), func(_ context.Context, r api.SyncEndRequest) (api.Nothing, error) {
			s.Compaction.LetGo(r.Hold)
			return api.Nothing{}, nil
		}),
		api.On(api.HolderSubject(s.ID, api.SyncObjects), s.objects),
		api.OnSeries(api.HolderSubject(s.ID, api.SyncStart), s.start),
		api.OnSeries(api.HolderSubject(s.ID, api.SyncObject), copying.send),
	}, s.verifyHandlers()...)
}

func (s SyncSource) begin(ctx context.Context, r api.SyncBeginRequest) (SyncBeginReply, error) {
	if err := events.CheckName(r.Client); err != nil {
		return SyncBeginReply{}, fault.New(fault.Usage, "client: %w", err)
	}
	if err := s.Followers.Admit(s.Name.Pool, r.Site); err != nil {
		return SyncBeginReply{}, err
	}
	if r.Tip != nil && !leadsThrough(HistoryOf(s.Replica), *r.Tip) {
		return SyncBeginReply{Site: s.Site, Stream: s.Stream}, nil
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
	reply := SyncBeginReply{Site: s.Site, Stream: s.Stream, Linked: r.Tip != nil}
	if r.Copying {
		reply.Hold = s.Compaction.Hold()
	}
	return reply, nil
}

// start sends where the source's replica stands: a follower that is empty copies the objects
// of its layers and replays from its mark.
func (s SyncSource) start(_ context.Context, r api.SyncStartRequest, send func([]byte) error) error {
	if err := s.Compaction.Renew(r.Hold); err != nil {
		return err
	}
	start, err := s.Replica.SyncStart()
	if err != nil {
		return err
	}
	start.Tags = start.Tags[max(0, len(start.Tags)-tagsSent):]
	data, err := json.Marshal(start)
	if err != nil {
		return err
	}
	return sendParts(api.SyncObjectRequest{}, replica.ObjectCopy{Data: data}, send)
}

func (s SyncSource) check(_ context.Context, r api.SyncCheckRequest) (api.SyncCheckReply, error) {
	if err := s.Followers.Admit(s.Name.Pool, r.Site); err != nil {
		return api.SyncCheckReply{}, err
	}
	return api.SyncCheckReply{Disconnected: s.Followers.Disconnected(s.ID, r.Client)}, nil
}

func (s SyncSource) objects(_ context.Context, r api.SyncObjectsRequest) (api.SyncObjectsReply, error) {
	if err := s.Compaction.Renew(r.Hold); err != nil {
		return api.SyncObjectsReply{}, err
	}
	objects, err := s.Replica.LayerObjects(replica.LayerID(r.Layer))
	if err != nil {
		return api.SyncObjectsReply{}, err
	}
	reply := api.SyncObjectsReply{Objects: []uint64{}, AtLeast: s.Replica.Applied().Position}
	for index, bytes := range objects {
		if index < r.From {
			continue
		}
		if len(reply.Objects) == objectsListed {
			reply.Next = index
			break
		}
		reply.Objects = append(reply.Objects, index)
		reply.Bytes = append(reply.Bytes, bytes)
	}
	if r.Imprints {
		err = s.imprint(replica.LayerID(r.Layer), &reply)
	}
	return reply, err
}

// imprint adds imprints to a list of objects.
func (s SyncSource) imprint(layer replica.LayerID, reply *api.SyncObjectsReply) error {
	for _, index := range reply.Objects {
		o, err := s.Replica.ImprintObject(layer, index)
		if err != nil {
			return err
		}
		reply.Versions = append(reply.Versions, uint64(o.Version))
		reply.Bitmaps = append(reply.Bitmaps, o.Bitmaps[:]...)
	}
	return nil
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
	if err := c.source.Compaction.Renew(r.Hold); err != nil {
		return err
	}
	buf, ok := c.spare.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	defer c.spare.Put(buf)
	object, err := c.source.Replica.CopyObject(replica.LayerID(r.Layer), r.Index, *buf)
	if errors.Is(err, replica.ErrNotFound) {
		return fault.New(fault.NotFound, "%w", err)
	}
	if err != nil {
		return err
	}
	*buf = object.Data[:0]
	if len(r.Have) > 0 {
		object.LeaveOut(wordsOf(r.Have), r.Digests)
	}
	return sendParts(r, object, func(part []byte) error {
		_ = c.source.Compaction.Renew(r.Hold) // parts may be far between; the next request is told
		return send(part)
	})
}

func sendParts(r api.SyncObjectRequest, object replica.ObjectCopy, send func([]byte) error) error {
	blocks, hidden, same := bytesOf(object.Blocks), bytesOf(object.Hidden), bytesOf(object.Same)
	parts := max(1, (len(object.Data)+events.ObjectPartBytesMax-1)/events.ObjectPartBytesMax)
	data := object.Data
	for part := range parts {
		n := min(len(data), events.ObjectPartBytesMax)
		message := events.ObjectPart{
			Layer: r.Layer, Index: r.Index, Version: object.Version,
			AtLeast: object.AtLeast, AtMost: object.AtMost,
			Part: uint32(part), Parts: uint32(parts), Blocks: blocks, Hidden: hidden, Data: data[:n], Same: same,
		}
		if err := send(message.Encode()); err != nil {
			return err
		}
		data, blocks, hidden, same = data[n:], nil, nil, nil
	}
	return nil
}

func bytesOf(words []uint64) []byte {
	if words == nil {
		return nil
	}
	b := make([]byte, 0, 8*len(words))
	for _, word := range words {
		b = binary.LittleEndian.AppendUint64(b, word)
	}
	return b
}

func wordsOf(b []byte) []uint64 {
	words := make([]uint64, 0, len(b)/8)
	for ; len(b) >= 8; b = b[8:] {
		words = append(words, binary.LittleEndian.Uint64(b))
	}
	return words
}
