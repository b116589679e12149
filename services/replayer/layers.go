package replayer

import (
	"fmt"

	"tidemark/internal/replica"
)

// plan decides which layers of a source a first sync copies, round by round, and whether it
// can still become the copy of a disk.
type plan struct {
	own []replica.LayerRecord // of this copy: what there was when the sync began
	// nextImage is above every image that there was.
	nextImage uint32
	// stood has, of each layer that was copied wholly, the one that it stood on then at the
	// source.
	stood map[replica.LayerID]replica.LayerID
}

// layerRound is a layer to be copied.
type layerRound struct {
	id, parent replica.LayerID // parent: at the source
	// again: what this copy has of the layer already does not count.
	again bool
}

func newPlan(r *replica.Replica) *plan {
	return &plan{r.Layers(), uint32(r.NextImageID()), map[replica.LayerID]replica.LayerID{}}
}

// round returns the layers to be copied from a source that has these now: those that were
// not copied, and those that have taken in what they stood on, because the source needs that
// no more and may have dropped it before it was copied.
func (p *plan) round(now []replica.LayerRecord) []layerRound {
	var round []layerRound
	for _, own := range p.own {
		for _, l := range now {
			stood, copied := p.stood[l.ID]
			if l.ID == own.ID && !(copied && stood == l.Parent) {
				round = append(round, layerRound{l.ID, l.Parent, copied || own.Parent != l.Parent})
			}
		}
	}
	return round
}

// copied notes that a layer was copied wholly.
func (p *plan) copied(l layerRound) { p.stood[l.id] = l.parent }

// interrupted reports whether a sync may go on that nobody kept the source's layers together
// for: one that is gone may have been merged into another that this copy does not know.
func (p *plan) interrupted(now *replica.SyncStart) error {
	if lost := p.lost(now.Layers); lost != 0 {
		return fmt.Errorf("the source has given up layer %d meanwhile: %w", lost, errStartOver)
	}
	return nil
}

// ended reports whether everything was copied that replay needs. A layer that is gone was
// dropped by an entry that replay comes to; but an image that came to be meanwhile may have
// been made of it.
func (p *plan) ended(now *replica.SyncStart) error {
	if lost := p.lost(now.Layers); lost != 0 && uint32(now.NextImage) > p.nextImage {
		return fmt.Errorf("the source has dropped layer %d, and new images may stand on it: %w", lost, errStartOver)
	}
	return nil
}

// lost returns a layer that was not copied wholly and is not among those of the source.
func (p *plan) lost(now []replica.LayerRecord) replica.LayerID {
	there := make(map[replica.LayerID]bool, len(now))
	for _, l := range now {
		there[l.ID] = true
	}
	for _, own := range p.own {
		if _, copied := p.stood[own.ID]; !copied && !there[own.ID] {
			return own.ID
		}
	}
	return 0
}
