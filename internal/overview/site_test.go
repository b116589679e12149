package overview

import (
	"reflect"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
)

// A service that fell silent is told of for a week, and dead letters for as long as they are there.
func TestWorriesOfASite(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) events.Instant { return events.InstantOf(now.Add(-d)) }
	m := Map{
		Site: api.Site{Silent: []api.Instance{
			{Node: "n1", Service: "replayer", Since: ago(time.Minute)},
			{Node: "n2", Service: "replayer", Since: ago(8 * 24 * time.Hour)},
		}},
		Webhooks: []api.Webhook{
			{Webhook: "a", Host: "a.example", Configured: true, Dead: 2},
			{Webhook: "b", Host: "b.example", Configured: true},
			{Webhook: "c", Host: "c.example", Dead: 1},
		},
	}
	want := []Worry{
		{Broken, Attention{"n1", "its replayer service fell silent", "look at the host; when it is back it rejoins by itself"}},
		{Undelivered, Attention{
			"webhook a.example", "2 notes could not be delivered: tidemark webhook dead list",
			"mend the receiver, then: tidemark webhook dead retry --all",
		}},
		{Undelivered, Attention{
			"webhook c.example", "1 note could not be delivered: tidemark webhook dead list",
			"name it again with serve --webhook, then: tidemark webhook dead retry --all, or tidemark webhook dead discard --all",
		}},
	}
	if got := m.Worries(now); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}
