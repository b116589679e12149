package replayer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/replica"
)

const (
	// copiesAtOnce is how many objects a first sync copies at a time.
	copiesAtOnce = 8
	// syncCheckpoint is how often a first sync saves what it has copied: a kill costs
	// at most that much.
	syncCheckpoint = 2 * time.Second
	// holdRenewed is how often a source is asked to go on holding its layers together, which
	// it does for a minute: nothing else may be asked of it for long while a resync takes
	// objects from the copy here.
	holdRenewed = 15 * time.Second
)

// firstSync fills an empty copy, or goes on filling one that was interrupted. A copy
// that is complete needs nothing.
func (f *follower) firstSync(ctx context.Context, own *ownCopy, src *source) error {
	if !own.unsynced() {
		return nil
	}
	f.enter(Syncing, nil)
	run := &copying{follower: f, replica: own.replica, source: src}
	if err := f.fill(ctx, own, run); err != nil {
		return err
	}
	f.setProgress(nil)
	done := run.meter.progress(time.Now())
	f.note(events.SyncEnded, fmt.Sprintf("%d objects, %d bytes", done.Objects, done.Bytes))
	return nil
}

// fill copies every object of a source into a copy that is empty, or was begun to be filled.
func (f *follower) fill(ctx context.Context, own *ownCopy, run *copying) error {
	src := run.source
	start, err := src.start(ctx)
	if err != nil {
		return err
	}
	resumed := own.replica.Syncing()
	if !resumed {
		err = f.beginSync(ctx, own, src, start)
	} else if !continues(own.replica.Tag(), start.Tags) {
		err = fmt.Errorf("site %s owns %s in another history than the site where its copying began: %w", src.peer.Site, f.name, errStartOver)
	}
	if err != nil {
		return err
	}
	layers := own.replica.Layers()
	if resumed && !f.held(ctx, src) {
		if err := start.Continues(layers); err != nil {
			return fmt.Errorf("site %s, since the copying was interrupted: %w: %w", src.peer.Site, err, errStartOver)
		}
	}
	if run.donor == nil { // a resync that was asked for meanwhile would be the same
		if err := own.replica.SetResynced(f.asked.number); err != nil {
			return err
		}
	}
	f.hold = src.begin.Hold
	run.donor.trust(holder.HistoryOf(own.replica))
	if run.donor == nil {
		f.note(events.SyncStarted, "from site "+src.peer.Site)
	}
	if err := run.all(ctx, layers); err != nil {
		return err
	}
	// Whatever the source dropped while it was copied, it had dropped by now.
	at, err := askSource[api.Status](ctx, src, api.DirectoryStatus, api.Nothing{})
	if err != nil {
		return err
	}
	if err := own.replica.EndSync(at.Applied.Position, at.Position.Position); err != nil {
		return err
	}
	// A source that does not hear that lets go by itself, later.
	_, _ = askSource[api.Nothing](ctx, src, api.SyncEnd, api.SyncEndRequest{Hold: src.begin.Hold})
	return nil
}

// held reports whether a source has held its layers together all the time since the last
// try to copy them: what held them then still does.
func (f *follower) held(ctx context.Context, src *source) bool {
	if f.hold == 0 {
		return false
	}
	_, err := askSource[api.SyncObjectsReply](ctx, src, api.SyncObjects, api.SyncObjectsRequest{Hold: f.hold})
	return fault.CodeOf(err) == fault.NotFound // there is no layer zero, but the hold is there
}

// unsynced reports whether the copy is empty, or its first sync has not ended.
func (o *ownCopy) unsynced() bool { return unsynced(o.replica) }

func unsynced(r *replica.Replica) bool { return r.Applied() == (events.Mark{}) || r.Syncing() }

// beginSync makes an empty copy one that waits for the objects of the source's layers.
func (f *follower) beginSync(ctx context.Context, own *ownCopy, src *source, start replica.SyncStart) error {
	if err := f.reconnected(ctx); err != nil {
		return err
	}
	if err := own.replica.BeginSync(start); err != nil {
		return err
	}
	own.tail.Rebase()
	f.kept = place{peer: src.peer.Peer, stream: src.begin.Stream, sequence: start.Sequence, ends: start.Mark}
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

// copying is one run of a first sync, or of a resync.
type copying struct {
	follower *follower
	replica  *replica.Replica
	source   *source
	donor    *donor // nil for a first sync
	meter    *meter
	alone    sync.Mutex // held by the one object that is copied at a slow rate
}

type objectID struct {
	layer replica.LayerID
	index uint64
}

// wanted is an object that is to be copied.
type wanted struct {
	objectID
	like replica.LayerRecord // of its layer
	// here is not zero if the donor has the very same: all entries up to here are in it
	// that changed it.
	here events.Position
}

// all copies every object of layers that this copy does not have, several at a time, and
// saves what it has now and then.
func (s *copying) all(ctx context.Context, layers []replica.LayerRecord) error {
	missing, err := s.list(ctx, layers)
	if err != nil {
		return err
	}
	s.follower.setProgress(s.meter)
	saving, stop := context.WithCancel(ctx)
	saved := make(chan error, 1)
	go func() { saved <- s.save(saving) }()
	var renewing sync.WaitGroup
	renewing.Go(func() { s.renewHold(saving, holdRenewed) })
	defer renewing.Wait()
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

// renewHold keeps the source holding its layers together until ctx ends. One that does not
// answer, or has let go, will say so when it is asked for an object.
func (s *copying) renewHold(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.follower.held(ctx, s.source)
		case <-ctx.Done():
			return
		}
	}
}

// list returns the objects of layers that this copy lacks. One that was dropped meanwhile
// has none: replay drops it here too.
func (s *copying) list(ctx context.Context, layers []replica.LayerRecord) ([]wanted, error) {
	var missing []wanted
	var have, bytes uint64
	for _, layer := range layers {
		err := s.pages(ctx, layer.ID, func(page api.SyncObjectsReply) {
			for i, index := range page.Objects {
				if _, synced := s.replica.Synced(layer.ID, index); synced {
					have++
					continue
				}
				object := wanted{objectID: objectID{layer.ID, index}, like: layer}
				if s.donor.has(object.objectID, page, i) {
					object.here = page.AtLeast
				}
				missing = append(missing, object)
				if object.here == 0 && i < len(page.Bytes) {
					bytes += page.Bytes[i]
				}
			}
		})
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return nil, fmt.Errorf("list objects of layer %d: %w", layer.ID, err)
		}
	}
	s.meter = newMeter(have, uint64(len(missing)), bytes, time.Now())
	return missing, nil
}

// pages gives take every page of the list of objects that a layer of the source has.
func (s *copying) pages(ctx context.Context, layer replica.LayerID, take func(api.SyncObjectsReply)) error {
	for from := uint64(0); ; {
		page, err := askSource[api.SyncObjectsReply](ctx, s.source, api.SyncObjects, api.SyncObjectsRequest{
			Hold: s.source.begin.Hold, Layer: uint32(layer), From: from, Imprints: s.donor.exact(),
		})
		if err != nil {
			return err
		}
		take(page)
		if page.Next <= from {
			return nil
		}
		from = page.Next
	}
}

func (s *copying) copy(ctx context.Context, id wanted) error {
	object, err := s.fetch(ctx, id)
	if fault.CodeOf(err) == fault.NotFound {
		return nil // dropped meanwhile; so will it be here
	}
	if err != nil {
		return fmt.Errorf("copy object %d of layer %d: %w", id.index, id.layer, err)
	}
	if err := s.replica.InstallObject(id.layer, id.index, object); err != nil {
		return err
	}
	s.meter.add(1, 0, time.Now())
	return nil
}

// fetch returns an object as the source has it, from the donor as far as that has the same.
func (s *copying) fetch(ctx context.Context, id wanted) (replica.ObjectCopy, error) {
	if id.here != 0 {
		return s.donor.take(id)
	}
	have, err := s.donor.shown(id)
	if err != nil {
		return have, err
	}
	if s.source.rate.slow() {
		s.alone.Lock()
		defer s.alone.Unlock()
	}
	object, err := s.source.object(ctx, id.objectID, have, func(bytes int) { s.meter.add(0, uint64(bytes), time.Now()) })
	if err == nil {
		err = object.PutBack(have)
	}
	return object, err
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
