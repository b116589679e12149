package overview

import (
	"context"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/api"
)

// A short status is believed only if the holders have what the map says that they have; one
// that hangs is told of, and hides nobody else.
func TestReportsCoverTheMap(t *testing.T) {
	held := []api.Held{{Node: "n1", Service: "replayer", Directories: 3}, {Node: "n2", Service: "replayer", Directories: 2}}
	n1, n2 := [2]string{"n1", "replayer"}, [2]string{"n2", "replayer"}
	silent := func(err error) []Silence {
		return []Silence{{api.Instance{Node: "n2", Service: "replayer"}, err}}
	}
	for name, c := range map[string]struct {
		reports Reports
		covers  bool
		worries int
	}{
		"as many":       {Reports{Held: map[[2]string]int{n1: 3, n2: 2}}, true, 0},
		"more":          {Reports{Held: map[[2]string]int{n1: 4, n2: 2}}, true, 0}, // it lets go of one
		"one is missed": {Reports{Held: map[[2]string]int{n1: 3, n2: 1}}, false, 0},
		"one hangs":     {Reports{Held: map[[2]string]int{n1: 3}, Silent: silent(context.DeadlineExceeded)}, true, 1},
		"one is gone":   {Reports{Held: map[[2]string]int{n1: 3}, Silent: silent(fmt.Errorf("asked: %w", nats.ErrNoResponders))}, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.reports.cover(api.Summary{Held: held}); got != c.covers {
				t.Errorf("covered: %v", got)
			}
			if got := c.reports.Worries(); len(got) != c.worries {
				t.Errorf("worries %+v", got)
			}
		})
	}
}

// While a directory moves two holders may name it: the one that is further counts.
func TestTheFurtherHolderCounts(t *testing.T) {
	standing := func(node string, entry uint32) api.Standing {
		return api.Standing{Status: api.Status{ID: "d", Node: node, Position: events.Mark{Position: events.At(1, entry)}}}
	}
	for _, order := range [][]api.Standing{{standing("old", 3), standing("new", 5)}, {standing("new", 5), standing("old", 3)}} {
		r := Reports{Standings: map[events.DirectoryID]api.Standing{}}
		for _, s := range order {
			r.add(s)
		}
		if got := r.Lines([]api.Directory{{ID: "d"}, {ID: "e", State: Stalled, Error: "no node"}}); got[0].Node != "new" || got[1].State != Stalled || got[1].Error != "no node" {
			t.Errorf("%+v", got)
		}
	}
}
