package main

import (
	"reflect"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
)

func TestDistribution(t *testing.T) {
	got := distribution([]api.Directory{
		{Node: "n2", Role: events.Slave},
		{Node: "n1", Role: events.Master},
		{Role: events.Slave},
		{Node: "n2", Role: events.Slave},
		{Node: "n2", Role: events.Master},
	})
	want := []share{{"", 0, 1}, {"n1", 1, 0}, {"n2", 1, 2}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := distribution(nil); got == nil || len(got) != 0 {
		t.Errorf("of nothing: %#v", got)
	}
}
