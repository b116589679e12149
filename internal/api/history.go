package api

import "tidemark/events"

// HistoryRead asks a holder for what tells one history from another.
const HistoryRead = "history" // HistoryRequest -> History

// HistoryRequest is asked by another site.
type HistoryRequest struct {
	Site string `json:"site"` // UUID of the site that asks, a peer of the pool
	// Known is the newest claim that the asker has: if it is one of this history, tags
	// before it are left out.
	Known events.Mark `json:"known"`
	// Below leaves out the tags from that one on; zero: none. A long list is asked for
	// from its end.
	Below events.Tag `json:"below"`
	// Changed asks how many objects have changed behind Since.
	Changed bool            `json:"changed"`
	Since   events.Position `json:"since"`
}

// History is what a holder knows of its copy's history, between two messages.
type History struct {
	History string              `json:"history"` // whose life of the directory it is
	Tags    []events.TagClaimed `json:"tags"`    // oldest first; a part, if More
	More    bool                `json:"more"`    // there are tags before those
	End     events.Mark         `json:"end"`
	Objects uint64              `json:"objects"` // that changed behind Since
}

// Split says how the histories of two sites have parted. Each side tells it from its own
// point of view.
type Split struct {
	Peer string `json:"peer"` // the other site
	// Common is the last position that both histories hold. If it is not exact, because
	// too many tags are forgotten, they have parted there or later.
	Common      events.Position `json:"common"`
	CommonExact bool            `json:"common_exact"`
	CommonTime  events.Instant  `json:"common_time"` // null: not known any more
	Ours        SplitSide       `json:"ours"`
	Theirs      SplitSide       `json:"theirs"`
	// Resolve is what can be said to resolve it: the choices, each a command line with the
	// site where it is said.
	Resolve []string `json:"resolve"`
}

// Ahead is what the source had, when it was last heard, and this copy has not received. It
// may have gone on since.
type Ahead struct {
	Entries uint64  `json:"entries"`
	Bytes   uint64  `json:"bytes"`
	Seconds float64 `json:"seconds"`        // from the last entry received to the last one lacked
	Site    string  `json:"site,omitempty"` // the source
	// Heard is when the source was heard last; Known is false if that is not known.
	Heard events.Instant `json:"heard"`
	Known bool           `json:"known"`
}

// SplitSide is one side's history behind the common position.
type SplitSide struct {
	Site    string          `json:"site"`
	Primary bool            `json:"primary"`
	End     events.Position `json:"end"`
	Tags    []SplitTag      `json:"tags"` // the first ones, oldest first
	Entries uint64          `json:"entries"`
	Bytes   uint64          `json:"bytes"` // of the journal
	Objects uint64          `json:"objects_changed"`
}

// SplitTag is one claim.
type SplitTag struct {
	Tag    events.Tag       `json:"tag"`
	Reason events.TagReason `json:"reason"`
	Site   string           `json:"site"`
	At     events.Instant   `json:"at"`
}
