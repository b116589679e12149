package main

import (
	"reflect"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
)

// directories 145: sums are of what is mapped; idle nodes have none, and dead ones are marked.
func TestDistribution(t *testing.T) {
	instances := []api.Instance{
		{Node: "n2", Service: events.ServiceReplayer},
		{Node: "n2", Service: events.ServiceJournal},
		{Node: "idle", Service: events.ServiceReplayer},
		{Node: "half", Service: events.ServiceJournal},
	}
	got := distribution([]api.Directory{
		{MappedTo: "n2", Node: "n2", Role: events.Slave, OldCopies: []api.OldCopy{{Node: "idle", Bytes: 3}, {Node: "gone", Bytes: 5}}},
		{MappedTo: "n1", Role: events.Master, State: "stalled"},
		{Role: events.Slave, State: "stalled"},
		{MappedTo: "n2", Role: events.Slave, State: "mapping", OldCopies: []api.OldCopy{{Node: "idle", Bytes: 7}}},
		{MappedTo: "n2", Node: "n2", Role: events.Master},
		{MappedTo: "half", Role: events.Slave},
	}, instances)
	want := []share{
		{"half", nodeDead, 1, 0, 1, 0, 0},
		{"idle", nodeLives, 0, 0, 0, 2, 10},
		{"n1", nodeDead, 1, 1, 0, 0, 0},
		{"n2", nodeLives, 3, 1, 2, 0, 0},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := distribution(nil, nil); got == nil || len(got) != 0 {
		t.Errorf("of nothing: %#v", got)
	}
}
