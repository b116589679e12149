package replayer

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

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
	copied, err := s.fetch(ctx, api.SyncStart, api.SyncStartRequest{Hold: s.begin.Hold}, objectID{}, startBytesMax, func(int) {})
	if err == nil {
		start, err = replica.DecodeSyncStart(copied.Data)
	}
	if err != nil {
		return start, fmt.Errorf("ask where site %s stands: %w", s.peer.Site, err)
	}
	return start, nil
}

// object asks for one object, but for those blocks of it that are the same in have. got is
// told of every part that comes, in bytes.
func (s *source) object(ctx context.Context, id objectID, have replica.ObjectCopy, got func(bytes int)) (replica.ObjectCopy, error) {
	request := api.SyncObjectRequest{Hold: s.begin.Hold, Layer: uint32(id.layer), Index: id.index}
	if len(have.Data) > 0 {
		request.Have, request.Digests = bytesOf(have.Blocks), replica.AppendDigests(nil, have.Data)
	}
	return s.fetch(ctx, api.SyncObject, request, id, replica.ObjectSizeMax, got)
}

// fetch asks for one object, of at most a number of bytes, and puts its parts together.
// Each is asked for when the one before has come, and the rate allows it.
func (s *source) fetch(ctx context.Context, kind string, request any, id objectID, bytesMax int, got func(bytes int)) (replica.ObjectCopy, error) {
	var object replica.ObjectCopy
	ctx, cancel := s.while(ctx)
	defer cancel()
	parts, err := api.CallSeries(s.bulk.Conn(), api.HolderSubject(s.directory, kind), request)
	if err != nil {
		return object, err
	}
	defer parts.Close()
	for next := uint32(0); ; next++ {
		part, err := nextPart(ctx, parts)
		switch {
		case err != nil:
			return object, err
		case replica.LayerID(part.Layer) != id.layer || part.Index != id.index || part.Part != next:
			return object, fault.New(fault.Corrupt, "the source sent part %d of object %d of layer %d instead", part.Part, part.Index, part.Layer)
		}
		if next == 0 {
			object = replica.ObjectCopy{
				Version: part.Version, AtLeast: part.AtLeast, AtMost: part.AtMost,
				Blocks: words(part.Blocks), Hidden: words(part.Hidden), Same: words(part.Same),
			}
		}
		object.Data = append(object.Data, part.Data...)
		if len(object.Data) > bytesMax {
			return object, fault.New(fault.Corrupt, "the source sent more than an object can hold")
		}
		got(len(part.Data))
		if err := parts.Hold(func() error { return s.rate.take(ctx, len(part.Data)) }); err != nil {
			return object, err
		}
		if next+1 == part.Parts {
			return object, nil
		}
	}
}

func nextPart(ctx context.Context, parts *api.Series) (*events.ObjectPart, error) {
	ctx, cancel := context.WithTimeout(ctx, copyTime)
	defer cancel()
	data, err := parts.Next(ctx)
	if err != nil {
		return nil, err
	}
	return events.DecodeObjectPart(data)
}

func words(blocks []byte) []uint64 {
	var out []uint64
	for ; len(blocks) >= 8; blocks = blocks[8:] {
		out = append(out, binary.LittleEndian.Uint64(blocks))
	}
	return out
}

func bytesOf(blocks []uint64) []byte {
	b := make([]byte, 0, 8*len(blocks))
	for _, word := range blocks {
		b = binary.LittleEndian.AppendUint64(b, word)
	}
	return b
}
