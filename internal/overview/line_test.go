package overview

import (
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
)

// journal 299, 302; rivals 7: what needs attention first, and what to do about it.
func TestAttention(t *testing.T) {
	line := func(state, failure string) Line {
		return Line{
			Mirror: Mirror{Directory: "vms/a", Primary: "west", State: state, Error: failure}, Mapping: Mapped,
		}
	}
	with := func(l Line, change func(*Line)) Line {
		change(&l)
		return l
	}
	type want struct {
		rank        Rank
		message, do string
	}
	for name, c := range map[string]struct {
		line Line
		want []want
	}{
		"a replica that follows": {line("replaying", ""), nil},
		"a first sync":           {line("syncing", ""), nil},
		"split brain": {
			line("split_brain", "parted at 5.7"),
			[]want{{0, "split_brain: parted at 5.7", "at the site that gives its changes up: tidemark mirror resync vms/a"}},
		},
		"an error": {line("error", "the disk is full"), []want{{0, "error: the disk is full", ""}}},
		"an error of a replica": {
			with(line("error", "cannot connect"), func(l *Line) { l.Role = events.Slave }),
			[]want{{0, "error: cannot connect", "it is tried again by itself; if it stays, look at what it names and the link"}},
		},
		"disconnected": {line("disconnected", "too old"), []want{{1, "disconnected: too old", "tidemark mirror resync vms/a"}}},
		"a silent primary": {
			line("stalled", "not heard for 8s"), []want{{1, "stalled: not heard for 8s", "look at site west and the link to it"}},
		},
		"in a chain": {
			with(line("stalled", "behind, and nothing is applied"), func(l *Line) { l.Primary, l.Ahead = "", &api.Ahead{} }),
			[]want{{1, "stalled: behind, and nothing is applied", "look at each site up to the primary, and the links between them"}},
		},
		"nobody": {
			with(line("stalled", ""), func(l *Line) { l.Primary = "" }), []want{{1, "stalled: no node holds it", "start a node with its copy"}},
		},
		"damaged, and nobody else has it": {
			with(line("stalled", "damaged; `tidemark mirror resync vms/prod` makes this copy anew"), func(l *Line) { l.Primary = "" }),
			[]want{{1, "stalled: damaged; `tidemark mirror resync vms/prod` makes this copy anew", "tidemark mirror resync vms/prod"}},
		},
		"damaged": {
			line("error", "damaged; `tidemark mirror resync vms/prod` makes this copy anew"),
			[]want{{0, "error: damaged; `tidemark mirror resync vms/prod` makes this copy anew", "tidemark mirror resync vms/prod"}},
		},
		"a resync": {
			with(line("resync", ""), func(l *Line) { l.Progress = &api.Progress{Objects: 3, ObjectsTotal: 9, Bytes: 4096} }),
			[]want{{2, "resync: 3 of 9 objects, 4KiB", "nothing: it goes on by itself"}},
		},
		"a resync without a primary": {
			line("resync", "the resync waits for a primary"),
			[]want{{1, "resync: the resync waits for a primary", "look at the link to its primary, or promote it at the site that has what is wanted"}},
		},
		"on its way": {
			with(line("replaying", ""), func(l *Line) { l.Mapping = "shuffling" }),
			[]want{{3, "it is not where it should be yet: shuffling", ""}},
		},
		"lag": {
			with(line("replaying", ""), func(l *Line) { l.Lag = api.Lag{Entries: 2, Bytes: 512, Seconds: 11} }),
			[]want{{4, "lagging: 11s behind its primary (2 entries, 512B)", "tidemark mirror status vms/a"}},
		},
		"no more than the target": {
			with(line("replaying", ""), func(l *Line) { l.TargetRPO, l.Lag.Seconds = 60, 59 }), nil,
		},
		"more than the target": {
			with(line("replaying", ""), func(l *Line) { l.TargetRPO, l.Lag = 1, api.Lag{Entries: 1, Bytes: 1, Seconds: 2} }),
			[]want{{4, "lagging: 2s behind its primary (1 entries, 1B)", "tidemark mirror status vms/a"}},
		},
		"held back on purpose": {
			with(line("replaying", ""), func(l *Line) { l.Delay, l.Lag.Seconds = 600, 605 }), nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.line.Worries()
			if len(got) != len(c.want) {
				t.Fatalf("worries %+v, want %+v", got, c.want)
			}
			for i, w := range got {
				if (want{w.Rank, w.Message, w.Do}) != c.want[i] || w.What != "vms/a" {
					t.Errorf("worry %+v, want %+v", w, c.want[i])
				}
			}
		})
	}
}
