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
	// Incarnation and Epoch are those of the assignment under which the client holds the
	// directory; empty where the client's own site does not publish it, and from an older
	// program.
	Incarnation string `json:"incarnation,omitempty"`
	Epoch       uint64 `json:"epoch,omitempty"`
}

// PositionsFenced says that the site takes no commit position any more from whoever holds
// a directory under an assignment up to an epoch: holders publish theirs on the condition
// that the newest of these is the one that they know. The stream keeps the newest of each
// directory, whose epoch only grows.
type PositionsFenced struct {
	Directory DirectoryID `json:"directory"`
	Epoch     uint64      `json:"epoch"`
	At        Instant     `json:"at"`
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
	// Site is the primary's name; empty from an older program.
	Site string `json:"site,omitempty"`
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

func (*PositionCommitted) Kind() string { return "position_committed" }
func (*PositionsFenced) Kind() string   { return "positions_fenced" }
func (*HeadAdvanced) Kind() string      { return "head_advanced" }
func (*HeadHeard) Kind() string         { return "head_heard" }

func (f *PositionCommitted) Subject() string { return PositionSubject(f.Directory, f.Client) }
func (f *PositionsFenced) Subject() string   { return FenceSubject(f.Directory) }
func (f *HeadAdvanced) Subject() string      { return HeadSubject(f.Directory) }
func (f *HeadHeard) Subject() string         { return HeardSubject(f.Directory, f.Client) }
