package events

import "time"

// Balance says what the nodes of a site are to have equal parts of.
type Balance string

// What directories count for when they are spread over nodes.
const (
	BalanceCount  Balance = "count"  // each the same
	BalanceSize   Balance = "size"   // the bytes of its copy
	BalanceWrites Balance = "writes" // the bytes per second that are written to it
)

// PlacementConfigured says how the site spreads replicas over its nodes; the newest is in
// force.
type PlacementConfigured struct {
	// Throttle is how long a replica stays at a node before balance may move it again;
	// 0 and less is not at all.
	Throttle time.Duration `json:"throttle"` // nanoseconds
	By       Balance       `json:"by"`
	At       Instant       `json:"at"`
}

// DirectoryMeasured says what a node's copy of a directory amounts to. Its holder publishes
// it when it changed by much, and seldom: see [DirectoryMeasured.Worth].
type DirectoryMeasured struct {
	Directory DirectoryID `json:"directory"`
	Client    string      `json:"client"` // SITE.NODE
	Node      string      `json:"node"`
	Bytes     uint64      `json:"bytes"` // that the copy takes on disk
	Rate      uint64      `json:"rate"`  // bytes per second that were written to it of late
	// Complete is set once the copy is none that a first sync or resync still fills.
	Complete bool    `json:"complete"`
	At       Instant `json:"at"`
}

// MeasureEvery is how long a measure stands at least before another replaces it, unless the
// copy became complete or is so no more.
const MeasureEvery = 10 * time.Minute

// Worth reports whether a measure is worth telling after the last one that was told: a number
// has doubled or halved, or the copy is complete now, or no more. What wavers by less is not
// told, so that nothing is moved for it.
func (f *DirectoryMeasured) Worth(last *DirectoryMeasured) bool {
	if last == nil || last.Complete != f.Complete {
		return true
	}
	return f.At.Sub(last.At) >= MeasureEvery && (far(f.Bytes, last.Bytes, 64<<20) || far(f.Rate, last.Rate, 64<<10))
}

// far reports whether two numbers differ by more than a factor of two; below least they are
// all the same.
func far(a, b, least uint64) bool {
	a, b = max(a, least), max(b, least)
	return a/2 > b || b/2 > a
}

// MeasuresSubject matches what is measured of all directories.
const MeasuresSubject = "tidemark.position.*.*.measured"

func (*PlacementConfigured) Kind() string { return "placement_configured" }
func (*DirectoryMeasured) Kind() string   { return "directory_measured" }

func (f *PlacementConfigured) Subject() string { return "tidemark.pool.placement_configured" }
func (f *DirectoryMeasured) Subject() string {
	return PositionSubject(f.Directory, f.Client) + ".measured"
}
