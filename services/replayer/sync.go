package replayer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
)

const (
	// copiesAtOnce is how many objects a first sync copies at a time.
	copiesAtOnce = 8
	// copyTime bounds the wait for the next part of an object.
	copyTime = 20 * time.Second
	// syncCheckpoint is how often a first sync saves what it has copied: a kill costs
	// at most that much.
	syncCheckpoint = 2 * time.Second
)

// firstSync fills an empty copy, or goes on filling one that was interrupted. A copy
// that is complete needs nothing.
func (f *follower) firstSync(ctx context.Context, own *ownCopy, src *source) error {
	empty := own.replica.Applied() == (events.Mark{})
	if !empty && !own.replica.Syncing() {
		return nil
	}
	f.enter(Syncing, nil)
	if !empty && !continues(own.replica.Tag(), src.begin.Start.Tags) {
		return fmt.Errorf("site %s owns %s in another history than the site where its copying began: %w",
			src.peer.Site, f.name, errStartOver)
	}
	if empty {
		if err := f.reconnected(ctx); err != nil {
			return err
		}
		if err := own.replica.BeginSync(src.begin.Start); err != nil {
			return err
		}
		own.tail.Rebase()
	}
	f.note(ctx, events.SyncStarted, "from site "+src.peer.Site)
	run := &copying{follower: f, replica: own.replica, source: src}
	if err := run.all(ctx); err != nil {
		return err
	}
	// Whatever the source dropped while it was copied, it had dropped by now.
	at, err := api.Call[api.Status](ctx, src.bus.Conn(), api.HolderSubject(src.directory, api.DirectoryStatus), api.Nothing{})
	if err != nil {
		return err
	}
	if err := own.replica.EndSync(at.Applied.Position); err != nil {
		return err
	}
	f.setProgress(nil)
	f.note(ctx, events.SyncEnded, fmt.Sprintf("%d objects, %d bytes", run.objects.Load(), run.bytes.Load()))
	return nil
}

// errStartOver says that what was copied so far may not belong to the source's history.
var errStartOver = errors.New("what was copied so far is dropped")

// continues reports whether a source with these tags is where a first sync may go on that
// began in the tag began. What was copied since then is of that tag's owner; if another
// site has claimed a tag after it, that site may not have had all of it.
func continues(began *events.TagClaimed, tags []events.TagClaimed) bool {
	found := false
	for _, tag := range tags {
		switch {
		case began == nil || tag.Tag > began.Tag && tag.Site != began.Site:
			return false
		case tag.Tag == began.Tag:
			found = tag.Mark.Same(began.Mark)
		}
	}
	return found
}

// copying is one run of a first sync.
type copying struct {
	follower       *follower
	replica        *replica.Replica
	source         *source
	total          uint64
	objects, bytes atomic.Uint64
}

type objectID struct {
	image events.ImageID
	layer replica.LayerID // here
	index uint64
}

// all copies every object that this copy does not have, several at a time, and saves
// what it has now and then.
func (s *copying) all(ctx context.Context) error {
	missing, err := s.list(ctx)
	if err != nil {
		return err
	}
	s.total = uint64(len(missing)) + s.objects.Load()
	s.report()
	saving, stop := context.WithCancel(ctx)
	saved := make(chan error, 1)
	go func() { saved <- s.save(saving) }()
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(copiesAtOnce)
	for _, id := range missing {
		if inner.Err() != nil {
			break
		}
		group.Go(func() error { return s.copy(inner, id) })
	}
	err = group.Wait()
	stop()
	if saveErr := <-saved; err == nil {
		err = saveErr
	}
	return err
}

// list returns the objects that the source has and this copy lacks. An image that was
// removed meanwhile has none: replay removes it here too.
func (s *copying) list(ctx context.Context) ([]objectID, error) {
	var missing []objectID
	for _, image := range s.replica.Images() {
		for from := uint64(0); ; {
			page, err := api.Call[api.SyncObjectsReply](ctx, s.source.bus.Conn(),
				api.HolderSubject(s.source.directory, api.SyncObjects), api.SyncObjectsRequest{Image: image.ID, From: from})
			if fault.CodeOf(err) == fault.NotFound {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("list objects of image %q: %w", image.Name, err)
			}
			for _, index := range page.Objects {
				if _, have := s.replica.Synced(image.Layer, index); have {
					s.objects.Add(1)
					continue
				}
				missing = append(missing, objectID{image.ID, image.Layer, index})
			}
			if page.Next <= from {
				break
			}
			from = page.Next
		}
	}
	return missing, nil
}

func (s *copying) copy(ctx context.Context, id objectID) error {
	object, err := s.fetch(ctx, id)
	if fault.CodeOf(err) == fault.NotFound {
		return nil // removed meanwhile; so will it be here
	}
	if err != nil {
		return fmt.Errorf("copy object %d of image %d: %w", id.index, id.image, err)
	}
	if err := s.replica.InstallObject(id.layer, id.index, object); err != nil {
		return err
	}
	s.objects.Add(1)
	s.bytes.Add(uint64(len(object.Data)))
	s.report()
	return nil
}

// fetch asks for one object and puts its parts together.
func (s *copying) fetch(ctx context.Context, id objectID) (replica.ObjectCopy, error) {
	conn := s.source.bus.Conn()
	inbox := nats.NewInbox()
	sub, err := conn.SubscribeSync(inbox)
	if err != nil {
		return replica.ObjectCopy{}, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only with the connection
	body := fmt.Appendf(nil, `{"image":%d,"index":%d}`, id.image, id.index)
	if err := conn.PublishRequest(api.HolderSubject(s.source.directory, api.SyncObject), inbox, body); err != nil {
		return replica.ObjectCopy{}, err
	}
	var object replica.ObjectCopy
	for next := uint32(0); ; next++ {
		part, err := nextPart(ctx, sub)
		switch {
		case err != nil:
			return object, err
		case part.Image != id.image || part.Index != id.index || part.Part != next:
			return object, fault.New(fault.Corrupt, "the source sent part %d of object %d instead", part.Part, part.Index)
		}
		if next == 0 {
			object = replica.ObjectCopy{Version: part.Version, AtLeast: part.AtLeast, AtMost: part.AtMost, Blocks: words(part.Blocks)}
		}
		object.Data = append(object.Data, part.Data...)
		if len(object.Data) > replica.ObjectSizeMax {
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

// save checkpoints what was copied until ctx ends.
func (s *copying) save(ctx context.Context) error {
	tick := time.NewTicker(syncCheckpoint)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if _, err := s.replica.Checkpoint(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("save the first sync: %w", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *copying) report() {
	s.follower.setProgress(&api.Progress{
		Objects: s.objects.Load(), ObjectsTotal: s.total, Bytes: s.bytes.Load(),
	})
}
