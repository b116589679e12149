package main

import (
	"fmt"
	"time"

	"tidemark/internal/api"
	"tidemark/internal/overview"
)

// splitRows tells of a split brain, below the directories.
func splitRows(t *table, directory string, s *api.Split) {
	t.gap()
	t.row(fmt.Sprintf("%s: split brain with %s, parted %s", directory, s.Peer, overview.PartedAt(s)))
	t.row("SITE", "PRIMARY", "STANDS AT", "ENTRIES SINCE", "BYTES SINCE", "OBJECTS CHANGED", "FIRST TAG SINCE")
	for _, side := range []api.SplitSide{s.Ours, s.Theirs} {
		t.row(side.Site, yesNo(side.Primary), side.End, side.Entries, formatSize(side.Bytes), side.Objects, firstTag(side))
	}
	t.row("to resolve it, choose one:")
	for _, command := range s.Resolve {
		t.row(command)
	}
}

func firstTag(side api.SplitSide) string {
	if len(side.Tags) == 0 {
		return ""
	}
	tag := side.Tags[0]
	return fmt.Sprintf("%d %s by %s at %s", tag.Tag, tag.Reason, tag.Site, tag.At.Time().Format(time.RFC3339))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
