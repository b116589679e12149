package events

import "time"

// Role is what a node's copy of a directory is.
type Role string

// The roles, after HAMMER2's PFS types.
const (
	// Master is the copy of the owner: the only one that takes writes.
	Master Role = "master"
	// Slave is a copy that follows a journal.
	Slave Role = "slave"
)

// DirectoryCreated says that a directory came to be at this site, as its primary.
type DirectoryCreated struct {
	Directory DirectoryID `json:"directory"`
	Pool      string      `json:"pool"`
	Path      string      `json:"path"`
	At        Instant     `json:"at"`
}

// DirectoryTracked says that this site follows the directory of that name at a peer.
type DirectoryTracked struct {
	Directory DirectoryID `json:"directory"` // its id at this site
	Pool      string      `json:"pool"`
	Path      string      `json:"path"`
	At        Instant     `json:"at"`
}

// DirectoryRemoved says that a directory is to be given up here: released by the node
// that holds it, then its copy deleted. Other sites' copies are not touched.
type DirectoryRemoved struct {
	Directory DirectoryID `json:"directory"`
	Pool      string      `json:"pool"`
	// IfEmpty: only if it holds no images when it was let go of.
	IfEmpty bool    `json:"if_empty,omitempty"`
	At      Instant `json:"at"`
}

// RemovalRefused says that a directory is not removed after all. Operation is the release
// that was refused.
type RemovalRefused struct {
	Directory DirectoryID `json:"directory"`
	Pool      string      `json:"pool"`
	Operation string      `json:"operation"`
	Code      string      `json:"code"`
	Message   string      `json:"message"`
	At        Instant     `json:"at"`
}

// DirectoryMapped says which node holds a directory, in which role. Node is empty
// when nobody does. Epoch grows with each mapping of the directory and never returns.
type DirectoryMapped struct {
	Directory DirectoryID `json:"directory"`
	Pool      string      `json:"pool"`
	Node      string      `json:"node"`
	Role      Role        `json:"role"`
	Epoch     uint64      `json:"epoch"`
	At        Instant     `json:"at"`
}

// DirectoryFenced says that an instance that is gone, and that may have held a directory
// under an epoch, cannot say anything for it any more: [PositionsFenced] stands in the log.
// Whoever is to hold the directory next is mapped with a higher epoch.
type DirectoryFenced struct {
	Directory   DirectoryID `json:"directory"`
	Pool        string      `json:"pool"`
	Node        string      `json:"node"`
	Service     string      `json:"service"`
	Incarnation string      `json:"incarnation"`
	Epoch       uint64      `json:"epoch"`
	At          Instant     `json:"at"`
}

// PromotionProposed says that this site is about to own a directory and asks the pool's
// other sites, which must not promote it meanwhile. It is followed by PromotionRequested or
// PromotionWithdrawn, or has no effect any more after a while.
type PromotionProposed struct {
	Directory DirectoryID `json:"directory"`
	Pool      string      `json:"pool"`
	At        Instant     `json:"at"`
}

// PromotionWithdrawn says that a proposed promotion does not take place.
type PromotionWithdrawn struct {
	Directory DirectoryID `json:"directory"`
	Pool      string      `json:"pool"`
	At        Instant     `json:"at"`
}

// PromotionRequested says that an operator wants this site to own a directory.
type PromotionRequested struct {
	Directory DirectoryID `json:"directory"`
	Pool      string      `json:"pool"`
	Force     bool        `json:"force"`
	At        Instant     `json:"at"`
}

// DemotionRequested says that an operator wants this site to give up owning a directory.
type DemotionRequested struct {
	Directory DirectoryID `json:"directory"`
	Pool      string      `json:"pool"`
	At        Instant     `json:"at"`
}

// RoleChangeRefused says that a promotion or demotion was tried and refused for good, and
// which role the directory keeps. Operation is the acquire or release that was refused.
type RoleChangeRefused struct {
	Directory DirectoryID `json:"directory"`
	Pool      string      `json:"pool"`
	Role      Role        `json:"role"` // the role that stays
	Operation string      `json:"operation"`
	Code      string      `json:"code"`
	Message   string      `json:"message"`
	At        Instant     `json:"at"`
}

// DirectoryConfigured says how this site is to follow a directory: all such settings, so
// that the newest one of a directory is in force. It counts while the directory is a replica.
type DirectoryConfigured struct {
	Directory DirectoryID `json:"directory"`
	Pool      string      `json:"pool"`
	// Delay is how long an entry waits here, counted from its own time, before it is
	// applied; 0 is not at all.
	Delay time.Duration `json:"delay"` // nanoseconds
	// TargetRPO is how far the copy may be behind before that is an alarm; 0 is any lag.
	TargetRPO time.Duration `json:"target_rpo"` // nanoseconds
	// SyncRate bounds what a first sync or a resync fetches, in bytes per second; 0 is
	// no bound.
	SyncRate uint64  `json:"sync_rate"`
	At       Instant `json:"at"`
}

// ResyncRequested says that an operator gives up what this site's copy has and the
// primary has not. Number counts the requests of a directory from 1.
type ResyncRequested struct {
	Directory   DirectoryID `json:"directory"`
	Pool        string      `json:"pool"`
	Number      uint64      `json:"number"`
	KeepRefused bool        `json:"keep_refused"` // as a conflict image
	At          Instant     `json:"at"`
}

// DirectoryForgotten says that the removal of a directory is complete: nobody holds it,
// and its name is free again.
type DirectoryForgotten struct {
	Directory DirectoryID `json:"directory"`
	Pool      string      `json:"pool"`
	At        Instant     `json:"at"`
}

func directorySubject(pool string, id DirectoryID, what string) string {
	return "tidemark.directory." + Token(pool) + "." + Token(string(id)) + "." + what
}

func (*DirectoryCreated) Kind() string    { return "directory_created" }
func (*DirectoryTracked) Kind() string    { return "directory_tracked" }
func (*DirectoryRemoved) Kind() string    { return "directory_removed" }
func (*DirectoryMapped) Kind() string     { return "directory_mapped" }
func (*DirectoryFenced) Kind() string     { return "directory_fenced" }
func (*PromotionProposed) Kind() string   { return "promotion_proposed" }
func (*PromotionWithdrawn) Kind() string  { return "promotion_withdrawn" }
func (*PromotionRequested) Kind() string  { return "promotion_requested" }
func (*DemotionRequested) Kind() string   { return "demotion_requested" }
func (*RemovalRefused) Kind() string      { return "removal_refused" }
func (*RoleChangeRefused) Kind() string   { return "role_change_refused" }
func (*DirectoryConfigured) Kind() string { return "directory_configured" }
func (*ResyncRequested) Kind() string     { return "resync_requested" }
func (*DirectoryForgotten) Kind() string  { return "directory_forgotten" }

func (f *DirectoryCreated) Subject() string { return directorySubject(f.Pool, f.Directory, f.Kind()) }

func (f *DirectoryTracked) Subject() string { return directorySubject(f.Pool, f.Directory, f.Kind()) }

func (f *DirectoryRemoved) Subject() string { return directorySubject(f.Pool, f.Directory, f.Kind()) }

func (f *RemovalRefused) Subject() string { return directorySubject(f.Pool, f.Directory, f.Kind()) }

func (f *DirectoryMapped) Subject() string { return directorySubject(f.Pool, f.Directory, f.Kind()) }

func (f *DirectoryFenced) Subject() string { return directorySubject(f.Pool, f.Directory, f.Kind()) }

func (f *PromotionProposed) Subject() string { return directorySubject(f.Pool, f.Directory, f.Kind()) }

func (f *PromotionWithdrawn) Subject() string {
	return directorySubject(f.Pool, f.Directory, f.Kind())
}

func (f *PromotionRequested) Subject() string { return directorySubject(f.Pool, f.Directory, f.Kind()) }

func (f *DemotionRequested) Subject() string { return directorySubject(f.Pool, f.Directory, f.Kind()) }

func (f *RoleChangeRefused) Subject() string { return directorySubject(f.Pool, f.Directory, f.Kind()) }

func (f *DirectoryConfigured) Subject() string {
	return directorySubject(f.Pool, f.Directory, f.Kind())
}

func (f *ResyncRequested) Subject() string { return directorySubject(f.Pool, f.Directory, f.Kind()) }

func (f *DirectoryForgotten) Subject() string {
	return directorySubject(f.Pool, f.Directory, f.Kind())
}
