package replica

import (
	"slices"

	"tidemark/events"
)

// createSnapshots closes the active layer of each image and gives it a new one on top:
// whatever the image's size, that is all there is to do.
func (r *Replica) createSnapshots(e events.SnapshotsCreated, at stamp) error {
	for i, id := range e.Images {
		img := r.images[id]
		closed := img.active
		active, err := r.newLayer(img, closed.size, closed)
		if err != nil {
			return err
		}
		s := &Snapshot{
			image: img, id: e.First + events.SnapshotID(i), name: e.Name, size: closed.size, position: at.version,
			created: at.time, group: e.Group, layer: closed, removed: make(chan struct{}), stale: true,
		}
		r.snapshots[s.id] = s
		r.nextSnapshot = max(r.nextSnapshot, s.id+1)
		img.activate(active)
		img.version.Store(uint64(at.version))
		img.change(func(a *attributes) { a.snapshots = append(slices.Clone(a.snapshots), s) })
	}
	return nil
}

// activate gives an image another active layer, which is at least as large as what is
// staged over it is checked against.
func (img *Image) activate(l *layer) {
	img.lockAll()
	defer img.unlockAll()
	img.replica.chain.Lock()
	defer img.replica.chain.Unlock()
	img.active = l
	img.size.Store(l.size)
	img.stale = true
}

// changeSnapshot carries out a fact about a snapshot.
func (r *Replica) changeSnapshot(s *Snapshot, fact events.Event, at stamp) error {
	switch e := fact.(type) {
	case events.SnapshotRemoved:
		r.removeSnapshot(s)
	case events.SnapshotRenamed:
		s.change(func() { s.name = e.Name })
	case events.SnapshotProtected:
		s.change(func() { s.protected = true })
	case events.SnapshotUnprotected:
		s.change(func() { s.protected = false })
	case events.SnapshotRolledBack:
		return r.rollBack(s, at)
	}
	return nil
}

// removeSnapshot forgets a snapshot. Its layer stays as long as something stands on it;
// the space that nothing sees any more comes back with Compact.
func (r *Replica) removeSnapshot(s *Snapshot) {
	if s.recorded {
		r.goneSnapshots = append(r.goneSnapshots, s.id)
	}
	delete(r.snapshots, s.id)
	s.image.change(func(a *attributes) {
		a.snapshots = slices.DeleteFunc(slices.Clone(a.snapshots), func(o *Snapshot) bool { return o == s })
	})
	r.chain.Lock()
	defer r.chain.Unlock()
	close(s.removed)
	r.sweep(s.layer)
}

// rollBack puts an empty layer on the snapshot's in place of the active one. Every object
// has the entry's version from now on: versions never go back.
func (r *Replica) rollBack(s *Snapshot, at stamp) error {
	old := s.image.active
	l, err := r.newLayer(s.image, s.size, s.layer)
	if err != nil {
		return err
	}
	l.floor, l.floorEnd = at.version, l.overlap
	s.image.activate(l)
	r.chain.Lock()
	defer r.chain.Unlock()
	r.sweep(old)
	return nil
}
