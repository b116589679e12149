package overview

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/api"
)

// SizeUnits are the units of a size above the byte, each 1024 times the one before.
const SizeUnits = "KMGTPE"

// Size writes a number of bytes for people, whole units without a fraction.
func Size(n uint64) string {
	shift, unit := 0, "B"
	for i := range len(SizeUnits) {
		if n>>(10*(i+1)) == 0 {
			break
		}
		shift, unit = 10*(i+1), SizeUnits[i:i+1]+"iB"
	}
	if n%(1<<shift) == 0 {
		return strconv.FormatUint(n>>shift, 10) + unit
	}
	return strconv.FormatFloat(float64(n)/float64(uint64(1)<<shift), 'f', 1, 64) + unit
}

// Seconds writes a duration in seconds for people.
func Seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(100 * time.Millisecond).String()
}

// Behind writes how far a copy is behind.
func Behind(l api.Lag) string {
	if l.Entries == 0 {
		return "0"
	}
	return strconv.FormatUint(l.Entries, 10) + " entries, " + Size(l.Bytes)
}

// Copied tells in one line how far a first sync or a resync has come.
func Copied(p *api.Progress) string {
	if p == nil {
		return "not begun"
	}
	line := fmt.Sprintf("%d of %d objects, %s", p.Objects, p.ObjectsTotal, Size(p.Bytes))
	if p.BytesTotal > 0 {
		line += " of " + Size(p.BytesTotal)
	}
	if p.Rate >= 1 {
		line += ", " + Size(uint64(p.Rate)) + "/s"
	}
	if p.SecondsLeft > 0 {
		left := time.Duration(p.SecondsLeft * float64(time.Second))
		line += ", " + left.Round(time.Second).String() + " left"
	}
	return line
}

// PartedAt says where two histories parted.
func PartedAt(s *api.Split) string {
	at := "at " + s.Common.String()
	if !s.CommonExact {
		at = "at or after " + s.Common.String()
	}
	if s.CommonTime != 0 {
		at += " (" + s.CommonTime.Time().Format(time.RFC3339) + ")"
	}
	return at
}

// splitError says in one line that a primary is in a split brain.
func splitError(s *api.Split) string {
	return fmt.Sprintf("split brain with site %s, parted %s: %d entries since then here, %d there; `tidemark mirror status` tells how to resolve it",
		s.Peer, PartedAt(s), s.Ours.Entries, s.Theirs.Entries)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
