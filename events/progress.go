package events

import "time"

// ClientState is what a journal's client is doing.
type ClientState string

// The states of a client of a journal.
const (
	ClientConnected    ClientState = "connected"
	ClientSyncing      ClientState = "syncing"
	ClientDisconnected ClientState = "disconnected"
	ClientRemoved      ClientState = "removed" // it is no client any more, unless it is let in again
)

// PositionCommitted says how far a client of a journal has come for good: it is
// published only after the checkpoint that it names. The stream keeps the newest of
// each client; the journal is trimmed below the least of them.
type PositionCommitted struct {
	Directory DirectoryID `json:"directory"`
	Client    string      `json:"client"`         // SITE.NODE
	Site      string      `json:"site,omitempty"` // UUID of the client's site
	Role      Role        `json:"role"`
	State     ClientState `json:"state"`
	Mark      Mark        `json:"mark"`
	// Registered says that the owner has let the client in at this position. Only that
	// makes a client connected again that was disconnected.
	Registered bool    `json:"registered,omitempty"`
	At         Instant `json:"at"`
}

// HeadAdvanced says how far a directory's journal reaches. Its owner publishes it when
// the safe position moves and once a second; it is not stored.
type HeadAdvanced struct {
	Directory DirectoryID `json:"directory"`
	Logged    Mark        `json:"logged"`
	Safe      Mark        `json:"safe"`
	// Disconnected names the clients that the journal no longer waits for: what they
	// need may be gone. Each must sync again.
	Disconnected []string `json:"disconnected,omitempty"`
	// Origin is what a follower passes on of the primary that it follows, directly or not;
	// nil at a primary, and where a history has none.
	Origin *Origin `json:"origin,omitempty"`
	At     Instant `json:"at"`
}

// Origin says how far a primary was logged when it was heard last.
type Origin struct {
	Logged Mark          `json:"logged"`
	At     Instant       `json:"at"`  // by the primary's clock; zero: it was never heard
	Age    time.Duration `json:"age"` // nanoseconds since it was heard
}

// HeadHeard says how far a follower knows its source to have been: it outlives the source
// and the follower's process, so that a forced promotion can say what it loses.
type HeadHeard struct {
	Directory DirectoryID `json:"directory"`        // at this site
	Client    string      `json:"client"`           // SITE.NODE of the follower
	Source    string      `json:"source,omitempty"` // name of the source's site
	Head      Mark        `json:"head"`
	At        Instant     `json:"at"`
}

// Lifecycle names a turn in a directory's life.
type Lifecycle string

// The turns that are noted.
const (
	Opened       Lifecycle = "opened"
	Closed       Lifecycle = "closed"
	Promoted     Lifecycle = "promoted"
	Demoted      Lifecycle = "demoted"
	Fenced       Lifecycle = "fenced"
	JournalFull  Lifecycle = "journal_full"
	Failed       Lifecycle = "failed"
	SyncStarted  Lifecycle = "sync_started"
	SyncEnded    Lifecycle = "sync_ended"
	Diverged     Lifecycle = "diverged"
	Disconnected Lifecycle = "disconnected"
	Lagging      Lifecycle = "lagging"       // a client will be disconnected if it does not catch up
	LostTail     Lifecycle = "lost_tail"     // the journal lacks what it had acknowledged
	JournalReset Lifecycle = "journal_reset" // history and clients were dropped
	RPOExceeded  Lifecycle = "rpo_exceeded"  // a copy is further behind than its target allows
	RPORestored  Lifecycle = "rpo_restored"
	Stalled      Lifecycle = "stalled" // a copy is behind and stands still, or hears nothing
	Resumed      Lifecycle = "resumed" // it is stalled no more

	ResyncStarted Lifecycle = "resync_started"
	ResyncEnded   Lifecycle = "resync_ended" // the new copy is complete, and takes the old one's place

	VerifyStarted    Lifecycle = "verify_started"
	VerifyEnded      Lifecycle = "verify_ended"
	VerifyMismatched Lifecycle = "verify_mismatched" // the copy differs from its source
)

// LifecycleNoted tells listeners of a turn in a directory's life. No state is folded
// from it.
type LifecycleNoted struct {
	Directory DirectoryID `json:"directory"`
	Pool      string      `json:"pool"`
	Path      string      `json:"path"`
	Node      string      `json:"node"`
	What      Lifecycle   `json:"what"`
	Mark      Mark        `json:"mark"`
	Detail    string      `json:"detail,omitempty"`
	At        Instant     `json:"at"`
}

func (*PositionCommitted) Kind() string { return "position_committed" }
func (*HeadAdvanced) Kind() string      { return "head_advanced" }
func (*LifecycleNoted) Kind() string    { return "lifecycle_noted" }
func (*HeadHeard) Kind() string         { return "head_heard" }

func (f *PositionCommitted) Subject() string { return PositionSubject(f.Directory, f.Client) }
func (f *HeadAdvanced) Subject() string      { return HeadSubject(f.Directory) }
func (f *HeadHeard) Subject() string         { return HeardSubject(f.Directory, f.Client) }
func (f *LifecycleNoted) Subject() string {
	return "tidemark.lifecycle." + Token(string(f.Directory)) + "." + string(f.What)
}
