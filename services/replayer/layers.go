package replayer

import (
	"slices"

	"tidemark/internal/replica"
)

// layerCopy is a layer to be copied.
type layerCopy struct {
	id replica.LayerID
	// whole: what this copy has of the layer already does not count. The source's has taken
	// in what it stood on.
	whole bool
}

// layersToCopy returns which of the layers that a copy waits for are to be copied from a
// source that has those of now. gone is one that the source has no more; zero: it has all.
//
// While the source holds its layers together, one that goes was dropped by an entry that
// replay comes to, and nothing stands on it. While it did not, because the copying was
// interrupted, a layer that went may be part of one that this copy does not know.
func layersToCopy(own, now []replica.LayerRecord) (copies []layerCopy, gone replica.LayerID) {
	for _, layer := range own {
		i := slices.IndexFunc(now, func(l replica.LayerRecord) bool { return l.ID == layer.ID })
		if i < 0 {
			gone = layer.ID
			continue
		}
		copies = append(copies, layerCopy{layer.ID, layer.Parent != now[i].Parent})
	}
	return copies, gone
}
