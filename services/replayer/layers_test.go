package replayer

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/replica"
)

// chainOf makes layers that each stand on the one before.
func chainOf(ids ...replica.LayerID) []replica.LayerRecord {
	var layers []replica.LayerRecord
	parent := replica.LayerID(0)
	for _, id := range ids {
		layers = append(layers, replica.LayerRecord{ID: id, Parent: parent})
		parent = id
	}
	return layers
}

func TestLayersToCopy(t *testing.T) {
	for _, c := range []struct {
		name string
		now  []replica.LayerRecord
		want []layerCopy
		gone replica.LayerID
	}{
		{"as they were", chainOf(1, 2, 3), []layerCopy{{1, false}, {2, false}, {3, false}}, 0},
		{"one came", chainOf(1, 2, 3, 4), []layerCopy{{1, false}, {2, false}, {3, false}}, 0},
		{"one was dropped", chainOf(1, 2), []layerCopy{{1, false}, {2, false}}, 3},
		{"one was merged into another", chainOf(1, 3), []layerCopy{{1, false}, {3, true}}, 2},
		{
			"one was cut off", append(chainOf(1, 2), replica.LayerRecord{ID: 3}),
			[]layerCopy{{1, false}, {2, false}, {3, true}}, 0,
		},
	} {
		got, gone := layersToCopy(chainOf(1, 2, 3), c.now)
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(layerCopy{})); diff != "" || gone != c.gone {
			t.Errorf("%s: gone %d, want %d; to copy (-want +got):\n%s", c.name, gone, c.gone, diff)
		}
	}
}
