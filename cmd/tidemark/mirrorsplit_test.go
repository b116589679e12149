package main

import (
	"bytes"
	"strings"
	"testing"
	"text/tabwriter"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/overview"
)

func sampleSplit() *api.Split {
	at := events.Instant(1_800_000_000_000_000_000)
	return &api.Split{
		Peer: "west", Common: events.At(4097, 3), CommonExact: true, CommonTime: at,
		Ours: api.SplitSide{Site: "east", Primary: true, End: events.At(4097, 35), Entries: 32, Bytes: 8 << 20, Objects: 2},
		Theirs: api.SplitSide{
			Site: "west", Primary: true, End: events.At(8194, 1), Entries: 1, Bytes: 100, Objects: 1,
			Tags: []api.SplitTag{{Tag: 8194, Reason: events.TagForced, Site: "west", At: at}},
		},
		Resolve: []string{"tidemark mirror demote vms/a && tidemark mirror resync vms/a # at east: keeps the history of west"},
	}
}

// journal 302, rivals 9: the primary shows the split brain that it is in, and what is said of it
// below the table is all that an operator needs.
func TestSplitBrainIsShown(t *testing.T) {
	m := overview.Mirrored(api.Directory{Name: "vms/a", State: mapped}, api.Status{
		Role: events.Master, State: "ready", Split: sampleSplit(),
	})
	if m.State != overview.SplitBrain || !strings.Contains(m.Error, "split brain with site west, parted at 4097.3") {
		t.Errorf("%s: %s", m.State, m.Error)
	}
	if shown := (overview.Line{Mirror: m}).ShownState(); shown != overview.SplitBrain {
		t.Errorf("status shows %s", shown)
	}
	var out bytes.Buffer
	rows := &table{tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)}
	splitRows(rows, "vms/a", m.Split)
	if err := rows.w.Flush(); err != nil {
		t.Fatal(err)
	}
	want := `
vms/a: split brain with west, parted at 4097.3 (2027-01-15T08:00:00Z)
SITE  PRIMARY  STANDS AT  ENTRIES SINCE  BYTES SINCE  OBJECTS CHANGED  FIRST TAG SINCE
east  yes      4097.35    32             8MiB         2                -
west  yes      8194.1     1              100B         1                8194 forced by west at 2027-01-15T08:00:00Z
to resolve it, choose one:
tidemark mirror demote vms/a && tidemark mirror resync vms/a # at east: keeps the history of west
`
	if out.String() != want {
		t.Errorf("shown:\n%s", out.String())
	}
	m.Split.CommonExact, m.Split.CommonTime = false, 0
	if at := overview.PartedAt(m.Split); at != "at or after 4097.3" {
		t.Error(at)
	}
}
