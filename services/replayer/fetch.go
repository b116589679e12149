package replayer

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
)

const (
	// copyTime bounds the wait for the next part of an object.
	copyTime = 20 * time.Second
	// startBytesMax bounds what a first sync begins with: every image, snapshot and layer.
	startBytesMax = 256 << 20
)

// start asks for where the source stands.
func (s *source) start(ctx context.Context) (replica.SyncStart, error) {
	var start replica.SyncStart
	copied, err := s.fetch(ctx, api.SyncStart, api.SyncStartRequest{Hold: s.begin.Hold}, objectID{}, startBytesMax)
	if err == nil {
		err = json.Unmarshal(copied.Data, &start)
	}
	if err != nil {
		return start, fmt.Errorf("ask where site %s stands: %w", s.peer.Site, err)
	}
	return start, nil
}

// object asks for one object.
func (s *source) object(ctx context.Context, id objectID) (replica.ObjectCopy, error) {
	request := api.SyncObjectRequest{Hold: s.begin.Hold, Layer: uint32(id.layer), Index: id.index}
	return s.fetch(ctx, api.SyncObject, request, id, replica.ObjectSizeMax)
}

// fetch asks for one object, of at most a number of bytes, and puts its parts together.
func (s *source) fetch(ctx context.Context, kind string, request any, id objectID, bytesMax int) (replica.ObjectCopy, error) {
	var object replica.ObjectCopy
	body, err := json.Marshal(request)
	if err != nil {
		return object, err
	}
	conn := s.bus.Conn()
	inbox := nats.NewInbox()
	sub, err := conn.SubscribeSync(inbox)
	if err != nil {
		return object, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only with the connection
	if err := conn.PublishRequest(api.HolderSubject(s.directory, kind), inbox, body); err != nil {
		return object, err
	}
	for next := uint32(0); ; next++ {
		part, err := nextPart(ctx, sub)
		switch {
		case err != nil:
			return object, err
		case replica.LayerID(part.Layer) != id.layer || part.Index != id.index || part.Part != next:
			return object, fault.New(fault.Corrupt, "the source sent part %d of object %d of layer %d instead", part.Part, part.Index, part.Layer)
		}
		if next == 0 {
			object = replica.ObjectCopy{
				Version: part.Version, AtLeast: part.AtLeast, AtMost: part.AtMost,
				Blocks: words(part.Blocks), Hidden: words(part.Hidden),
			}
		}
		object.Data = append(object.Data, part.Data...)
		if len(object.Data) > bytesMax {
			return object, fault.New(fault.Corrupt, "the source sent more than an object can hold")
		}
		if next+1 == part.Parts {
			return object, nil
		}
	}
}

func nextPart(ctx context.Context, sub *nats.Subscription) (*events.ObjectPart, error) {
	ctx, cancel := context.WithTimeout(ctx, copyTime)
	defer cancel()
	msg, err := sub.NextMsgWithContext(ctx)
	if err != nil {
		return nil, err
	}
	if len(msg.Data) == 0 && msg.Header.Get("Status") == "503" {
		return nil, nats.ErrNoResponders
	}
	if err := api.AnsweredError(msg.Data); err != nil {
		return nil, err
	}
	return events.DecodeObjectPart(msg.Data)
}

func words(blocks []byte) []uint64 {
	var out []uint64
	for ; len(blocks) >= 8; blocks = blocks[8:] {
		out = append(out, binary.LittleEndian.Uint64(blocks))
	}
	return out
}
