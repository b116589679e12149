package replayer

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
)

const (
	// verifyPatience is how long a comparison waits for a source that is out of reach.
	verifyPatience = 60 * time.Second
	// mismatchesListed bounds the mismatches that a comparison lists; all are counted.
	mismatchesListed = 1000
)

// verification is one comparison of this copy with what it follows, while both go on.
//
// An object's version says which entry changed it last, so two copies of an object in the
// same version must hold the same, wherever their replicas stand. The source says how an
// object is now, and in which version; this copy, which is behind, waits until it has the
// object in exactly that version, and compares then ([replica.Replica.DigestAt]). If it
// turns out to be ahead, because the source's answer took its time, it asks again, and
// after a few times holds its own replay for as long as it asks. So each comparison ends.
// What is not data is compared in the same way, at the end of one message.
//
// Content is compared as images and snapshots show it. Layers are not, because they are
// merged at another time at every copy.
type verification struct {
	follower *follower
	own      *ownCopy
	repair   bool
	tell     func(api.Progress)
	images   map[events.ImageID]replica.ImageRecord

	mu      sync.Mutex // protects what follows
	found   api.Verified
	damaged uint64 // bytes that differ and were not repaired
	total   uint64 // objects to be compared, about
}

// verified is what the last comparison of a directory found, for the metrics.
type verified struct {
	at         time.Time
	mismatches uint64 // that were not repaired
	bytes      uint64 // in those
}

// verify compares the copy with its source, one comparison at a time.
func (f *follower) verify(ctx context.Context, own *ownCopy, r api.VerifyRequest, tell func(api.Progress)) (api.Verified, error) {
	if !f.verifying.CompareAndSwap(false, true) {
		return api.Verified{}, fault.New(fault.Busy, "directory %s is being verified already", f.name)
	}
	defer f.verifying.Store(false)
	if !own.complete() || f.isIn(Resyncing) {
		return api.Verified{}, fault.New(fault.NotReady, "the copy of %s here is not complete yet: verify it when `tidemark mirror status` shows it as replaying", f.name)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // nothing is held up that ends the copy
		select {
		case <-own.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	v := &verification{follower: f, own: own, repair: r.Repair, tell: tell}
	v.found.Mismatches = []api.Mismatch{}
	f.note(events.VerifyStarted, "")
	started := time.Now()
	err := v.run(ctx)
	v.found.Seconds = time.Since(started).Seconds()
	f.note(events.VerifyEnded, v.summary(err))
	if err != nil {
		return api.Verified{}, fmt.Errorf("verify %s: %w", f.name, err)
	}
	f.mu.Lock()
	f.verified = &verified{time.Now(), v.found.MismatchesTotal - v.found.Repaired, v.damaged}
	f.mu.Unlock()
	return v.found, nil
}

func (f *follower) isIn(s State) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state == s
}

func (v *verification) summary(err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d objects at %v, %d differed, %d repaired", v.found.Objects, v.found.Position, v.found.MismatchesTotal, v.found.Repaired)
}

// run compares everything: first what is not data, then snapshots, the oldest first, then
// images. A block that an image shares with a snapshot is thus repaired where the snapshot
// shows what belongs there.
func (v *verification) run(ctx context.Context) error {
	outline, err := v.outline(ctx)
	if err != nil {
		return err
	}
	var views []replica.View
	for _, s := range outline.Snapshots {
		views = append(views, replica.View{Image: s.Image, Snapshot: s.ID})
	}
	v.images = make(map[events.ImageID]replica.ImageRecord, len(outline.Images))
	for _, img := range outline.Images {
		views = append(views, replica.View{Image: img.ID})
		v.images[img.ID] = img
	}
	v.found.Position, v.found.Images, v.found.Snapshots = outline.Mark.Position, len(outline.Images), len(outline.Snapshots)
	if v.total, err = v.count(ctx, views); err != nil {
		return err
	}
	names := map[events.SnapshotID]string{}
	for _, s := range outline.Snapshots {
		names[s.ID] = s.Name
	}
	for _, view := range views {
		c := comparison{verification: v, view: view, image: v.images[view.Image], snapshot: names[view.Snapshot]}
		if err := c.run(ctx); err != nil {
			return err
		}
	}
	if v.found.Repaired > 0 {
		_, err = v.own.replica.Checkpoint(ctx)
	}
	return err
}

// count returns how many objects this copy has.
func (v *verification) count(ctx context.Context, views []replica.View) (objects uint64, err error) {
	for _, view := range views {
		for index := uint64(0); ctx.Err() == nil; index++ {
			var ok bool
			index, ok, err = v.own.replica.NextObject(view, index)
			if err != nil || !ok {
				break // a view that went meanwhile has none
			}
			objects++
		}
	}
	return objects, ctx.Err()
}

// outline compares what is not data, and returns what both sides have.
func (v *verification) outline(ctx context.Context) (replica.Outline, error) {
	for try := 0; ; try++ {
		var theirs replica.Outline
		release, err := v.ahead(ctx, try, func(ctx context.Context, src *source) (at events.Position, err error) {
			theirs, err = src.outline(ctx, v.site())
			return theirs.Mark.Position, err
		})
		if err != nil {
			return replica.Outline{}, err
		}
		w, passed := v.own.replica.OutlineAt(theirs.Mark.Position)
		release()
		if passed {
			continue
		}
		reached, err := v.await(ctx, w.Done(), theirs.Mark.Position)
		switch {
		case err != nil:
			return replica.Outline{}, err
		case reached:
			v.outlineDiffers(w.Outline.Differences(&theirs))
			return common(w.Outline, theirs), nil
		}
	}
}

func (v *verification) outlineDiffers(differences []replica.Difference) {
	for _, d := range differences {
		v.add(api.Mismatch{Image: d.Image, Snapshot: d.Snapshot, Detail: d.What + "; " + needsResync})
	}
}

// needsResync says what to do about a difference that is not one of data.
const needsResync = "this cannot be repaired here: see `tidemark mirror resync`"

// common returns the images and snapshots of the first outline that the other has too.
func common(ours, theirs replica.Outline) replica.Outline {
	ours.Images = slices.DeleteFunc(ours.Images, func(r replica.ImageRecord) bool {
		return !slices.ContainsFunc(theirs.Images, func(o replica.ImageRecord) bool { return o.ID == r.ID && o.ObjectSize == r.ObjectSize })
	})
	ours.Snapshots = slices.DeleteFunc(ours.Snapshots, func(r replica.SnapshotRecord) bool {
		there := slices.ContainsFunc(theirs.Snapshots, func(o replica.SnapshotRecord) bool { return o.ID == r.ID })
		return !there || !slices.ContainsFunc(ours.Images, func(o replica.ImageRecord) bool { return o.ID == r.Image })
	})
	return ours
}

// add counts a mismatch, and lists it as long as there is room.
func (v *verification) add(m api.Mismatch) {
	v.mu.Lock()
	first := v.found.MismatchesTotal == 0
	v.found.MismatchesTotal++
	if m.Repaired {
		v.found.Repaired++
	} else {
		v.damaged += m.Bytes
	}
	if len(v.found.Mismatches) < mismatchesListed {
		v.found.Mismatches = append(v.found.Mismatches, m)
	}
	v.mu.Unlock()
	v.follower.log.Error("the copy differs from its source", "image", m.Image, "snapshot", m.Snapshot,
		"object", m.Object, "offset", m.Offset, "blocks", m.Blocks, "repaired", m.Repaired, "detail", m.Detail)
	if first {
		v.follower.note(events.VerifyMismatched, fmt.Sprintf("image %q, object %d, %d blocks", m.Image, m.Object, m.Blocks))
	}
}

// compared counts an object, and says how far the comparison has come.
func (v *verification) compared(bytes uint64) {
	v.mu.Lock()
	v.found.Objects++
	v.found.Bytes += bytes
	p := api.Progress{Objects: v.found.Objects, ObjectsTotal: max(v.total, v.found.Objects), Bytes: v.found.Bytes}
	v.mu.Unlock()
	v.tell(p)
}

func (v *verification) site() string { return v.follower.service.deps.Node.Site.UUID }
