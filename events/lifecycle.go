package events

// Lifecycle names a turn in the life of a directory, or of the site.
type Lifecycle string

// Turns that the notifier notes, because another stream holds the fact that they are
// about: each exactly once, also if nobody could note it at the time. At is the fact's.
const (
	Created     Lifecycle = "created"          // the directory came to be here
	Tracked     Lifecycle = "tracked"          // the directory is to be followed here
	Removed     Lifecycle = "removed"          // its removal is complete
	ResyncAsked Lifecycle = "resync_requested" // an operator gives up what only the copy here has
	Assigned    Lifecycle = "assigned"         // a node has opened it, in the role that Detail names
	Released    Lifecycle = "released"         // a node has let go of it
	Promoted    Lifecycle = "promoted"         // this site owns it now
	Demoted     Lifecycle = "demoted"          // this site owns it no more

	InstanceJoined Lifecycle = "instance_joined" // a service of a node lives; of no directory
	InstanceLeft   Lifecycle = "instance_left"   // it said goodbye
	InstanceLost   Lifecycle = "instance_lost"   // it fell silent

	// AcknowledgementRejected: an answer to an acquire or release was late, came twice, was
	// for somebody else or could not be read. It has changed nothing; Detail says why.
	AcknowledgementRejected Lifecycle = "acknowledgement_rejected"
)

// Turns that whoever holds a directory notes, because nobody else knows of them. What
// cannot be noted within a few seconds is logged and lost.
const (
	Opened  Lifecycle = "opened"
	Closing Lifecycle = "closing" // clients are served no more in a moment
	Closed  Lifecycle = "closed"
	Fenced  Lifecycle = "fenced" // another writer has taken the directory over
	Failed  Lifecycle = "failed"

	JournalFilling Lifecycle = "journal_nearly_full" // 4/5 of what it may hold
	JournalDrained Lifecycle = "journal_drained"     // it is nearly full no more
	JournalFull    Lifecycle = "journal_full"        // writers wait
	JournalRoom    Lifecycle = "journal_room"        // they wait no more

	Lagging      Lifecycle = "lagging"   // a client will be disconnected if it does not catch up
	CaughtUp     Lifecycle = "caught_up" // it lags no more
	Disconnected Lifecycle = "disconnected"
	Reconnected  Lifecycle = "reconnected"
	LostTail     Lifecycle = "lost_tail"     // the journal lacks what it had acknowledged
	JournalReset Lifecycle = "journal_reset" // history and clients were dropped

	Diverged Lifecycle = "diverged" // split brain
	Reunited Lifecycle = "reunited" // it is resolved

	SyncStarted   Lifecycle = "sync_started"
	SyncEnded     Lifecycle = "sync_ended"
	ResyncStarted Lifecycle = "resync_started"
	ResyncEnded   Lifecycle = "resync_ended" // the new copy is complete, and takes the old one's place

	RPOExceeded Lifecycle = "rpo_exceeded" // a copy is further behind than its target allows
	RPORestored Lifecycle = "rpo_restored"
	Stalled     Lifecycle = "stalled" // a copy is behind and stands still, or hears nothing
	Resumed     Lifecycle = "resumed" // it is stalled no more

	VerifyStarted    Lifecycle = "verify_started"
	VerifyEnded      Lifecycle = "verify_ended"
	VerifyMismatched Lifecycle = "verify_mismatched" // the copy differs from its source
)

// Unassigned is noted by policy: no live node can hold the directory.
const Unassigned Lifecycle = "unassigned"

// Turns of block jobs. Nobody notes them yet: there are no jobs. With is the image.
const (
	JobReady Lifecycle = "job_ready" // base and overlay hold the same: it may be ended
	JobEnded Lifecycle = "job_ended" // Detail says how
)

// standing lists the turns that last until another one ends them.
func standing() map[Lifecycle]Lifecycle {
	return map[Lifecycle]Lifecycle{
		JournalFilling: JournalDrained,
		JournalFull:    JournalRoom,
		Lagging:        CaughtUp,
		Disconnected:   Reconnected,
		Diverged:       Reunited,
		RPOExceeded:    RPORestored,
		Stalled:        Resumed,
		Unassigned:     Assigned,
	}
}

// EndedBy returns the turn that ends one which lasts, and false for one that does not:
// it is over as soon as it is noted.
func (l Lifecycle) EndedBy() (Lifecycle, bool) {
	end, lasts := standing()[l]
	return end, lasts
}

// Ends returns the turn that this one ends, and false if it ends none.
func (l Lifecycle) Ends() (Lifecycle, bool) {
	for begin, end := range standing() {
		if end == l {
			return begin, true
		}
	}
	return "", false
}

// Cause says which message a turn was derived from: no two notes have the same.
type Cause struct {
	Stream   string `json:"stream"`
	Sequence uint64 `json:"sequence"`
	Part     int    `json:"part,omitempty"` // of several turns that one message is, from 0
}

// LifecycleNoted tells listeners of a turn in a directory's life, or in the site's. No
// state is folded from it.
type LifecycleNoted struct {
	Directory DirectoryID `json:"directory"` // empty for a turn of the site
	Pool      string      `json:"pool"`
	Path      string      `json:"path"`
	Node      string      `json:"node"`
	What      Lifecycle   `json:"what"`
	// With is whom the turn is about besides the directory: a client of its journal, the
	// UUID of another site, a service of the node, an image.
	With   string  `json:"with,omitempty"`
	Mark   Mark    `json:"mark"`
	Detail string  `json:"detail,omitempty"`
	Cause  *Cause  `json:"cause,omitempty"` // nil: whoever noted it is the only one who knows
	At     Instant `json:"at"`
}

// Kind implements [Fact].
func (*LifecycleNoted) Kind() string { return "lifecycle_noted" }

// lifecycleOfSite stands in a subject where a directory's id stands otherwise.
const lifecycleOfSite = "site"

// Subject implements [Fact]: tidemark.lifecycle.DIRECTORY.WHAT, with one token more where
// With is set.
func (f *LifecycleNoted) Subject() string {
	about := lifecycleOfSite
	if f.Directory != "" {
		about = Token(string(f.Directory))
	}
	subject := "tidemark.lifecycle." + about + "." + Token(string(f.What))
	if f.With != "" {
		subject += "." + Token(f.With)
	}
	return subject
}
