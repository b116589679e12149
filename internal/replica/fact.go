package replica

import (
	"fmt"

	"tidemark/events"
)

// stamp says where an entry stands: its position, the version that what it touches gets,
// and when its message was published.
type stamp struct {
	position events.Position
	version  events.Position
	time     events.Instant
}

// applyFact makes a fact true, once: an entry that was applied before changes nothing.
func (r *Replica) applyFact(fact events.Event, at stamp, before []events.Position) error {
	if r.isTrue(fact, at.version) {
		return nil
	}
	have := r.versions(fact)
	if len(before) != len(have) {
		return corrupt("entry %v carries %d versions where %d were expected", at.position, len(before), len(have))
	}
	image, about := imageOfFact(fact)
	for i, want := range before {
		// What is about to come to be must not be there, whatever the entry names.
		if have[i] != want || !about && have[i] != 0 && !isSnapshots(fact) {
			return &MismatchError{Position: at.position, Image: imageAt(fact, i, image), Record: true, Want: want, Have: have[i]}
		}
	}
	if err := r.check(fact); err != nil {
		return corrupt("entry %v cannot be applied: %w", at.position, err)
	}
	if err := r.makeTrue(fact, at); err != nil {
		return fmt.Errorf("apply entry %v: %w", at.position, err)
	}
	return nil
}

func isSnapshots(fact events.Event) bool {
	_, ok := fact.(events.SnapshotsCreated)
	return ok
}

// imageAt returns the image that the i-th version of a fact's entry is of.
func imageAt(fact events.Event, i int, image events.ImageID) events.ImageID {
	switch e := fact.(type) {
	case events.ImageCreated:
		return e.Image
	case events.ImageCloned:
		return e.Image
	case events.SnapshotsCreated:
		return e.Images[i]
	}
	return image
}

// isTrue reports whether a fact was made true by an entry of this version.
func (r *Replica) isTrue(fact events.Event, version events.Position) bool {
	is := func(id events.ImageID) bool { return r.images[id].versionOrZero() == version }
	switch e := fact.(type) {
	case events.ImageCreated:
		return is(e.Image)
	case events.ImageCloned:
		return is(e.Image)
	case events.SnapshotsCreated:
		return len(e.Images) > 0 && is(e.Images[0])
	}
	id, _ := imageOfFact(fact)
	return is(id)
}

// makeTrue carries out a fact that was checked.
func (r *Replica) makeTrue(fact events.Event, at stamp) error {
	switch e := fact.(type) {
	case events.ImageCreated:
		return r.createImage(e, at)
	case events.ImageCloned:
		return r.cloneImage(e, at)
	case events.SnapshotsCreated:
		return r.createSnapshots(e, at)
	}
	id, _ := imageOfFact(fact)
	img := r.images[id]
	var err error
	if _, snapshot, ok := snapshotOfFact(fact); ok {
		err = r.changeSnapshot(r.snapshots[snapshot], fact, at)
	} else {
		err = r.changeImage(img, fact, at)
	}
	img.version.Store(uint64(at.version))
	img.stale, r.altered = true, true
	return err
}
