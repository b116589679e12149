package api

import (
	"tidemark/events"
	"tidemark/internal/fault"
)

// Journal describes a directory's journal: what does not change while it is written.
type Journal struct {
	Directory  events.DirectoryID `json:"directory"`
	Name       string             `json:"name"`
	History    string             `json:"history"`
	Stream     string             `json:"stream"`
	Subject    string             `json:"subject"`
	Durability string             `json:"durability"`
	BytesLimit uint64             `json:"limit_bytes"`
	// Group commit: see the settings of serve.
	FlushBytes   uint64  `json:"flush_bytes"`
	FlushEntries uint64  `json:"flush_entries"` // 0: no such bound
	FlushSeconds float64 `json:"flush_age_seconds"`
	// Writethrough: nothing is held back before a client has flushed for the first time.
	Writethrough bool   `json:"writethrough_until_flush"`
	InFlight     int    `json:"max_in_flight_appends"`
	PayloadBytes uint64 `json:"max_payload_bytes"`
	// A client further behind is disconnected.
	LagBytes   uint64  `json:"lag_bytes"`
	LagSeconds float64 `json:"lag_age_seconds"`
}

// JournalState says how far a journal and its clients have come.
type JournalState struct {
	State   string          `json:"state"` // of the directory
	Error   string          `json:"error,omitempty"`
	Minimum events.Position `json:"minimum"` // the first position that is still held
	Tag     events.Tag      `json:"tag"`
	Entry   uint32          `json:"entry"`   // the last one logged in the tag
	Entries uint64          `json:"entries"` // in the whole history
	Bytes   uint64          `json:"bytes"`   // that the stream takes
	Clients []JournalClient `json:"clients"`
}

// JournalClient is a consumer of a journal.
type JournalClient struct {
	ID      string             `json:"id"`
	State   events.ClientState `json:"state"`
	Commit  TagEntry           `json:"commit_position"`
	Entries uint64             `json:"entries_behind"`
	Bytes   uint64             `json:"bytes_behind"`
	Seen    events.Instant     `json:"seen"`
}

// TagEntry is a position in its two parts.
type TagEntry struct {
	Tag   events.Tag `json:"tag"`
	Entry uint32     `json:"entry"`
}

// Tag is one period of one writer's ownership.
type Tag struct {
	Tag         events.Tag       `json:"tag"`
	Reason      events.TagReason `json:"reason"`
	Site        string           `json:"site"`
	Node        string           `json:"node"`
	Predecessor TagEntry         `json:"predecessor"`
	Chain       events.Chain     `json:"predecessor_chain"`
	At          events.Instant   `json:"at"`
}

// JournalClientRequest names a client of a journal.
type JournalClientRequest struct {
	Client string `json:"client"`
}

// JournalImportRequest carries events to be executed again, in order; images go by their
// names, because numbers differ between directories.
type JournalImportRequest struct {
	Entries []ImportEntry `json:"entries"` // about 512 KiB of them in one request
}

// ImportEntry is one event of an import: a change of data, or a fact of package events
// that an operation made true. The two entries that log an operation are one event here,
// the fact, and operations that failed are left out; so are void runs, and the parts of
// the others are events of their own.
type ImportEntry struct {
	// Image is the name that the event's image has before the event: of ImageCreated the
	// one that it will have, of ImageCloned the parent's, of SnapshotsCreated empty.
	Image string `json:"image,omitempty"`
	// Snapshot is the name before the event of the snapshot that the event names by its
	// number; of SnapshotsCreated, which holds it, empty.
	Snapshot string `json:"snapshot,omitempty"`
	// Images are the names of the images of SnapshotsCreated, in its order.
	Images []string `json:"images,omitempty"`
	// Entry is the event in an entry of its own in binary form (package events), without
	// versions and part. The numbers of images and snapshots in it mean nothing here.
	Entry []byte `json:"entry"`
}

// JournalImportReply says how many events were executed, and how many had no effect because
// what they make true was so already.
type JournalImportReply struct {
	Executed uint64 `json:"executed"`
	Ignored  uint64 `json:"ignored"`
	// Refused says why the entry behind those was not executed, nor any behind it; absent
	// when all were. Its index in the request is Executed + Ignored.
	Refused *Refusal `json:"refused,omitempty"`
}

// Refusal is an error as an answer holds it.
type Refusal struct {
	Code    fault.Code `json:"code"`
	Message string     `json:"message"`
}
