package main

import (
	"errors"
	"reflect"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/overview"
)

// directories 1, 3, 71, 72, 146: what nodes say of themselves, added up; one that says nothing
// yet is left out, and one that hangs is not.
func TestDaemons(t *testing.T) {
	east := api.Peer{Peer: "beef", Site: "east"}
	replayer := func(node string) api.Instance {
		return api.Instance{Node: node, Service: events.ServiceReplayer, Incarnation: "of " + node, Since: 7}
	}
	m := overview.Map{
		Pools: []api.Pool{{Pool: "a", Mirroring: true}, {Pool: "b", Mirroring: true}, {Pool: "off"}},
		Peers: []overview.PoolPeer{{Pool: "a", Peer: east}},
		Directories: []api.Directory{
			{ID: "1", Pool: "a", MappedTo: "n1"}, {ID: "2", Pool: "a", MappedTo: "n1"}, {ID: "3", Pool: "b", MappedTo: "n1"}, {ID: "4", Pool: "a"},
		},
	}
	m.Site.Instances = []api.Instance{replayer("n1"), replayer("n2"), replayer("new"), replayer("stuck")}
	standing := func(id events.DirectoryID, node string, failures, recoveries uint64) api.Standing {
		return api.Standing{Status: api.Status{ID: id, Node: node, Failures: failures, Recoveries: recoveries}}
	}
	reports := overview.Reports{
		Standings: map[events.DirectoryID]api.Standing{
			"1": standing("1", "n1", 2, 1), "2": standing("2", "n1", 1, 1), "3": standing("3", "n1", 0, 0), "gone": standing("gone", "n1", 9, 9),
		},
		Held:   map[[2]string]int{{"n1", events.ServiceReplayer}: 3, {"n2", events.ServiceReplayer}: 0},
		Silent: []overview.Silence{{Instance: replayer("stuck"), Err: errors.New("no answer in time")}},
	}
	node := func(name, problem string, all daemonCounts, pools ...daemonPool) daemon {
		return daemon{
			Node: name, Services: []string{events.ServiceReplayer}, Since: 7, daemonCounts: all, Pools: pools, Error: problem,
			Instances: []daemonInstance{{events.ServiceReplayer, "of " + name, 7}},
		}
	}
	pools := func(a, b daemonCounts) []daemonPool {
		return []daemonPool{{"a", a, []api.Peer{east}}, {"b", b, []api.Peer{}}}
	}
	none := daemonCounts{}
	want := []daemon{
		node("n1", "", daemonCounts{3, 3, 2}, pools(daemonCounts{2, 3, 2}, daemonCounts{1, 0, 0})...),
		node("n2", "", none, pools(none, none)...),
		node("stuck", "its replayer service does not answer", none, pools(none, none)...),
	}
	if got := daemonsOf(m, reports); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if got := daemonsOf(overview.Map{Pools: m.Pools}, overview.Reports{}); got == nil || len(got) != 0 {
		t.Errorf("of no node: %#v", got)
	}
}
