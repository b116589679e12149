package replica

import (
	"slices"

	"go.etcd.io/bbolt"

	"tidemark/events"
	"tidemark/internal/fault"
)

// keyNewJournal is set while the journal that a replica had is to be replaced by an empty
// one; see [Replica.Rewind].
const keyNewJournal = "new_journal"

// History returns all that tells this copy's history from another: its identity, its tags,
// oldest first, and its end, as they are between two messages.
func (r *Replica) History() (id string, tags []events.TagClaimed, end events.Mark) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	tags = slices.Clone(r.tags)
	for len(tags) > 0 && tags[len(tags)-1].Mark.Position > r.applied.Position {
		tags = tags[:len(tags)-1] // it is just being applied
	}
	return r.identity.History, tags, r.applied
}

// ChangedSince counts the objects of images that changed behind a position of this history.
func (r *Replica) ChangedSince(p events.Position) (objects uint64) {
	r.applying.Lock()
	defer r.applying.Unlock()
	for _, img := range r.images {
		img.active.objects.touched(0, func(_ uint64, o *object) bool {
			if o.version > p {
				objects++
			}
			return true
		})
	}
	return objects
}

// Rewind gives up the claims behind a mark of this history, none of which was followed by
// an entry: the images are what they were there. From then on the replica stands at the
// mark, durably, and its journal is to be replaced by an empty one: [Replica.NewJournal] is
// true until [Replica.JournalReplaced]. It is refused ([fault.NotReady]) where entries would
// be lost.
func (r *Replica) Rewind(to events.Mark) error {
	if err := r.rewind(to); err != nil {
		return err
	}
	_, err := r.checkpoint()
	return err
}

func (r *Replica) rewind(to events.Mark) error {
	r.checkpointing.Lock()
	defer r.checkpointing.Unlock()
	r.applying.Lock()
	defer r.applying.Unlock()
	if err := r.usable(); err != nil {
		return err
	}
	keep, _ := slices.BinarySearchFunc(r.tags, to.Position.Tag()+1, func(t events.TagClaimed, tag events.Tag) int {
		return int(int64(t.Tag) - int64(tag))
	})
	switch {
	case r.syncing || r.catchingUp():
		return fault.New(fault.NotReady, "rewind: %w", ErrSyncing)
	case keep == len(r.tags) || !r.tags[keep].Predecessor.Same(to):
		return fault.New(fault.NotReady, "rewind: no tag of this history continues %v", to.Position)
	case r.applied.Entries != to.Entries || r.applied.Bytes != to.Bytes:
		return fault.New(fault.NotReady, "rewind: there are entries behind %v", to.Position)
	}
	if to.Time == 0 { // a predecessor's mark has none
		to.Time = r.tags[keep].Mark.Time
	}
	for _, t := range r.tags[keep:max(keep, r.tagsSaved)] {
		r.goneTags = append(r.goneTags, t.Tag)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tags = slices.Clone(r.tags[:keep])
	r.tagsSaved = min(r.tagsSaved, keep)
	r.begun, r.applied, r.seq = to.Position, to, 0
	r.reach = min(r.reach, to.Position) // it was passed
	r.newJournal, r.altered = true, true
	return nil
}

// NewJournal reports whether the journal's stream holds nothing of this copy's any more:
// it is to be emptied before anything is read from it.
func (r *Replica) NewJournal() bool {
	r.applying.Lock()
	defer r.applying.Unlock()
	return r.newJournal
}

// JournalReplaced says, durably, that the journal's stream is empty. Nothing was noted to be
// safe in it: that comes first, so that a crash in between has the stream replaced again.
func (r *Replica) JournalReplaced() error {
	noted, _ := r.NotedSafe() // its position stays, as in ContinueBehind
	if err := r.renote(noted, 0); err != nil {
		return err
	}
	r.applying.Lock()
	r.newJournal, r.altered = false, true
	r.applying.Unlock()
	_, err := r.checkpoint()
	return err
}

// loadNewJournal reads whether the journal is to be replaced.
func (r *Replica) loadNewJournal(tx *bbolt.Tx) {
	r.newJournal = tx.Bucket([]byte(bucketReplica)).Get([]byte(keyNewJournal)) != nil
}

// storeHistory stores what a rewinding changed.
func (c *commit) storeHistory(tx *bbolt.Tx) error {
	if err := deleteNumbers(tx, bucketTags, c.goneTags); err != nil {
		return err
	}
	if !c.newJournal {
		return tx.Bucket([]byte(bucketReplica)).Delete([]byte(keyNewJournal))
	}
	return put(tx, bucketReplica, []byte(keyNewJournal), []byte{recordVersion})
}
