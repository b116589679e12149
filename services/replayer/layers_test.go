package replayer

import (
	"errors"
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

func planOf(layers []replica.LayerRecord) *plan {
	return &plan{layers, 5, map[replica.LayerID]replica.LayerID{}}
}

func (p *plan) rounds(t *testing.T, now []replica.LayerRecord, want ...layerRound) {
	t.Helper()
	got := p.round(now)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(layerRound{})); diff != "" {
		t.Errorf("round (-want +got):\n%s", diff)
	}
	for _, l := range got {
		p.copied(l)
	}
}

func TestPlanCopiesEachLayerOnce(t *testing.T) {
	p := planOf(chainOf(1, 2, 3))
	now := chainOf(1, 2, 3, 4) // 4 came later: replay makes it
	p.rounds(t, now, layerRound{1, 0, false}, layerRound{2, 1, false}, layerRound{3, 2, false})
	p.rounds(t, now)
	if err := p.ended(&replica.SyncStart{Layers: now, NextImage: 9}); err != nil {
		t.Error(err)
	}
}

// A layer that has taken in its parent is copied again, wholly.
func TestPlanCopiesAgainWhatHasTakenInItsParent(t *testing.T) {
	p := planOf(chainOf(1, 2, 3))
	p.rounds(t, chainOf(1, 2, 3), layerRound{1, 0, false}, layerRound{2, 1, false}, layerRound{3, 2, false})
	p.rounds(t, chainOf(1, 3), layerRound{3, 1, true})
	p.rounds(t, chainOf(1, 3))

	// One that had taken it in before this copying went on: what is here does not count.
	p = planOf(chainOf(1, 2, 3))
	p.rounds(t, append(chainOf(1, 2), replica.LayerRecord{ID: 3, Parent: 1}),
		layerRound{1, 0, false}, layerRound{2, 1, false}, layerRound{3, 1, true})
}

func TestPlanStartsOverWhenSomethingMayBeLost(t *testing.T) {
	for _, c := range []struct {
		name        string
		copied      []replica.LayerRecord // in a first round
		now         replica.SyncStart
		ended       bool // ends with errStartOver
		interrupted bool
	}{
		{"nothing is gone", nil, replica.SyncStart{Layers: chainOf(1, 2), NextImage: 9}, false, false},
		{"a layer was dropped, no image came", chainOf(1), replica.SyncStart{Layers: chainOf(1), NextImage: 5}, false, true},
		{"a layer was dropped, and an image came", chainOf(1), replica.SyncStart{Layers: chainOf(1), NextImage: 6}, true, true},
		{"it was copied before", chainOf(1, 2), replica.SyncStart{Layers: chainOf(1), NextImage: 6}, false, false},
	} {
		p := planOf(chainOf(1, 2))
		for _, l := range p.round(c.copied) {
			p.copied(l)
		}
		if err := p.ended(&c.now); errors.Is(err, errStartOver) != c.ended {
			t.Errorf("%s: ended: %v", c.name, err)
		}
		if err := p.interrupted(&c.now); errors.Is(err, errStartOver) != c.interrupted {
			t.Errorf("%s: interrupted: %v", c.name, err)
		}
	}
}
