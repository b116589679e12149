package main

import (
	"fmt"
	"time"

	"tidemark/internal/api"
)

// mirrorSplit is the state of a directory whose history and another site's have parted.
const mirrorSplit = "split_brain"

// splitRows tells of a split brain, below the directories.
func splitRows(t *table, directory string, s *api.Split) {
	t.gap()
	t.row(fmt.Sprintf("%s: split brain with %s, parted %s", directory, s.Peer, partedAt(s)))
	t.row("SITE", "PRIMARY", "STANDS AT", "ENTRIES SINCE", "BYTES SINCE", "OBJECTS CHANGED", "FIRST TAG SINCE")
	for _, side := range []api.SplitSide{s.Ours, s.Theirs} {
		t.row(side.Site, yesNo(side.Primary), side.End, side.Entries, formatSize(side.Bytes), side.Objects, firstTag(side))
	}
	t.row("to resolve it, choose one:")
	for _, command := range s.Resolve {
		t.row(command)
	}
}

func partedAt(s *api.Split) string {
	at := "at " + s.Common.String()
	if !s.CommonExact {
		at = "at or after " + s.Common.String()
	}
	if s.CommonTime != 0 {
		at += " (" + s.CommonTime.Time().Format(time.RFC3339) + ")"
	}
	return at
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

// splitError says in one line that a primary is in a split brain.
func splitError(s *api.Split) string {
	return fmt.Sprintf("split brain with site %s, parted %s: %d entries since then here, %d there; `tidemark mirror status` tells how to resolve it",
		s.Peer, partedAt(s), s.Ours.Entries, s.Theirs.Entries)
}
