package api

import (
	"strconv"
	"time"

	"tidemark/events"
)

// Requests that the policy service answers.
const (
	SiteInfo         = "tidemark.api.site.info"         // Nothing -> Site
	PoolCreate       = "tidemark.api.pool.create"       // Pool -> Pool
	PoolList         = "tidemark.api.pool.list"         // Nothing -> []Pool
	PoolRemove       = "tidemark.api.pool.remove"       // Pool -> Nothing
	DirectoryCreate  = "tidemark.api.directory.create"  // DirectoryName -> Directory
	DirectoryResolve = "tidemark.api.directory.resolve" // DirectoryName -> Directory
	DirectoryList    = "tidemark.api.directory.list"    // PoolFilter -> []Directory
	DirectoryRemove  = "tidemark.api.directory.remove"  // DirectoryName -> Nothing
	MirrorEnable     = "tidemark.api.mirror.enable"     // Pool -> Pool
	MirrorDisable    = "tidemark.api.mirror.disable"    // Pool -> Pool
	MirrorAdd        = "tidemark.api.mirror.add"        // DirectoryName -> Directory
	MirrorRemove     = "tidemark.api.mirror.remove"     // DirectoryName -> Nothing
	MirrorPromote    = "tidemark.api.mirror.promote"    // Promote -> Directory
	MirrorDemote     = "tidemark.api.mirror.demote"     // DirectoryName -> Directory
	MirrorResync     = "tidemark.api.mirror.resync"     // Resync -> Directory
	MirrorPeers      = "tidemark.api.mirror.peers"      // DirectoryName -> []PeerCopy
	MirrorSet        = "tidemark.api.mirror.set"        // MirrorSettings -> Directory
	MirrorDiscard    = "tidemark.api.mirror.discard"    // Discard -> Directory
	MirrorPlacement  = "tidemark.api.mirror.placement"  // PlacementSettings -> Placement
	PeerToken        = "tidemark.api.peer.token"        // PeerTokenRequest -> PeerTokenReply
	PeerImport       = "tidemark.api.peer.import"       // PeerImportRequest -> Peer
	PeerJoin         = "tidemark.api.peer.join"         // JoinRequest -> JoinReply; asked by the other site
	PeerList         = "tidemark.api.peer.list"         // Pool -> []Peer
	PeerRemove       = "tidemark.api.peer.remove"       // PeerRemoveRequest -> Nothing
)

// Requests of a pool's peers to the policy service. The pool stands in the subject too, so
// that a peer can be let ask for the pools that it shares and for no other.
const (
	sharedResolve = "resolve" // DirectoryName -> Directory
	sharedList    = "list"    // PoolFilter -> []Directory
)

func shared(pool, request string) string { return "tidemark.api.shared." + pool + "." + request }

// SharedResolve is where a peer asks for a directory of a pool: [DirectoryResolve].
func SharedResolve(pool string) string { return shared(events.Token(pool), sharedResolve) }

// SharedList is where a peer asks for the directories of a pool: [DirectoryList].
func SharedList(pool string) string { return shared(events.Token(pool), sharedList) }

// Where the policy service listens for [SharedResolve] and [SharedList] of all pools.
const (
	SharedResolves = "tidemark.api.shared.*." + sharedResolve
	SharedLists    = "tidemark.api.shared.*." + sharedList
)

// Requests matches every request.
const Requests = "tidemark.api.>"

// PolicySubjects matches what the policy service answers.
func PolicySubjects() []string {
	return []string{
		"tidemark.api.site.*", "tidemark.api.pool.*", "tidemark.api.directory.*",
		"tidemark.api.mirror.*", "tidemark.api.peer.*", SharedResolves, SharedLists,
	}
}

// Nothing is an empty request or reply.
type Nothing struct{}

// Site describes the site and its nodes.
type Site struct {
	Name      string     `json:"name"`
	UUID      string     `json:"uuid"`
	Number    uint16     `json:"number"`
	Instances []Instance `json:"instances"`
	// Silent are those that fell silent and were not heard since; Since is when that was.
	Silent []Instance `json:"silent,omitempty"`
}

// Instance is a service of a node that is alive.
type Instance struct {
	Node        string         `json:"node"`
	Service     string         `json:"service"`
	Incarnation string         `json:"incarnation"`
	Since       events.Instant `json:"since"`
}

// Pool is a named set of directories.
type Pool struct {
	Pool        string `json:"pool"`
	Mirroring   bool   `json:"mirroring"`
	Directories int    `json:"directories"`
	Peers       int    `json:"peers"`
}

// PoolFilter selects one pool, or all of them when empty.
type PoolFilter struct {
	Pool string `json:"pool"`
}

// Directory is a directory as the map knows it.
type Directory struct {
	ID    events.DirectoryID `json:"id"`
	Pool  string             `json:"pool"`
	Path  string             `json:"path"`
	Name  string             `json:"name"` // POOL/DIR
	Role  events.Role        `json:"role"` // what this site's copy is
	Node  string             `json:"node"` // who holds it, empty while nobody does
	Epoch uint64             `json:"epoch"`
	// State is the map's: stalled, mapping, resolving, mapped, shuffling, unmapping, or fencing
	// while the node that had it is gone and could still say something.
	State string `json:"state"`
	// Reason is why it is stalled.
	Reason string `json:"reason,omitempty"`
	// MappedTo is the node that the map names, whether it holds the directory or not; empty
	// while none was ever chosen. InstanceID is that node's incarnation: of a directory that
	// is stalled, or on its way to its first node, it is empty.
	MappedTo   string `json:"mapped_to"`
	InstanceID string `json:"instance_id"`
	// LastShuffled is when the map named that node; zero while there is no InstanceID.
	LastShuffled UnixTime `json:"last_shuffled"`
	// Promoting is set while the site is about to own the directory: it asks its peers
	// for their consent, or has it and takes the directory over.
	Promoting bool `json:"promoting,omitempty"`
	// Error is the last failed acquire or release of the directory, if the next one
	// has not succeeded yet.
	Error string `json:"error,omitempty"`
	Following
	// OldCopies are those that nodes kept when the directory left them.
	OldCopies []OldCopy `json:"old_copies,omitempty"`
}

// OldCopy is a copy of a directory at a node that does not hold it any more.
type OldCopy struct {
	Node  string `json:"node"`
	Lives bool   `json:"lives"` // the node does
	// Bytes are about what it takes, as its node told last; zero: it never did.
	Bytes uint64 `json:"bytes"`
	// Since is when the map named the node that the directory is at now.
	Since UnixTime `json:"since"`
}

// Discard asks for a node's old copy of a directory to be deleted.
type Discard struct {
	events.DirectoryName
	Node string `json:"node"`
}

// UnixTime is a time in seconds since 1970; in JSON, zero is null.
type UnixTime float64

// MarshalJSON implements [json.Marshaler].
func (t UnixTime) MarshalJSON() ([]byte, error) {
	if t == 0 {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(t), 'f', 3, 64), nil
}

// Following is how this site's copy of a directory follows while it is a replica. Zero
// is no delay, any lag, no bound.
type Following struct {
	Delay     float64 `json:"delay_seconds"`
	TargetRPO float64 `json:"target_rpo_seconds"`
	Limit     uint64  `json:"limit"` // bytes per second, of a first sync or resync
}

// Promote asks for a directory to become primary here.
type Promote struct {
	events.DirectoryName
	Force bool `json:"force"`
}

// PeerCopy is what another site of the pool says of its copy of a directory.
type PeerCopy struct {
	Site string      `json:"site"`
	Role events.Role `json:"role"` // empty: it has no copy, or cannot be asked
	// Promoting is set while it is about to own the directory.
	Promoting bool `json:"promoting"`
	// Position is how far its journal of the directory reaches; of a replica only.
	Position events.Mark `json:"position"`
	// Error is why it cannot be asked, or cannot say how far its journal reaches.
	Error string `json:"error,omitempty"`
}

// Resync asks for what this site's copy has, and the primary has not, to be given up.
type Resync struct {
	events.DirectoryName
	// KeepRefused: it is kept beside, as a conflict image.
	KeepRefused bool `json:"keep_refused"`
}

// SettingMax is the largest delay and target RPO of a directory.
const SettingMax = 365 * 24 * time.Hour

// MirrorSettings changes how this site's copy of a directory follows. What is nil stays
// as it is; at least one is given.
type MirrorSettings struct {
	events.DirectoryName
	Delay     *time.Duration `json:"delay,omitempty"`      // nanoseconds, 0 to [SettingMax]
	TargetRPO *time.Duration `json:"target_rpo,omitempty"` // nanoseconds, 0 to [SettingMax]
	Limit     *uint64        `json:"limit,omitempty"`      // bytes per second, 0 is no bound
}

// PlacementSettings changes how the site spreads replicas over its nodes. What is nil stays
// as it is; with nothing set, it only asks.
type PlacementSettings struct {
	Throttle *time.Duration  `json:"throttle,omitempty"` // nanoseconds, at most [SettingMax]; 0 is none
	By       *events.Balance `json:"by,omitempty"`
}

// Placement is how the site spreads replicas over its nodes.
type Placement struct {
	Throttle float64        `json:"throttle_seconds"` // 0 is none
	By       events.Balance `json:"by"`
}

// PeerTokenRequest asks for a bootstrap token.
type PeerTokenRequest struct {
	Pool    string        `json:"pool"`
	Expires time.Duration `json:"expires"` // nanoseconds; zero is 24 hours
}

// PeerTokenReply carries a bootstrap token: a secret, one line of text.
type PeerTokenReply struct {
	Token   string         `json:"token"`
	Expires events.Instant `json:"expires"`
	// Enabled is set when mirroring of the pool was off and the token turned it on.
	Enabled bool `json:"enabled"`
}

// PeerImportRequest hands a token from another site to this one.
type PeerImportRequest struct {
	Pool      string           `json:"pool"`
	Token     string           `json:"token"`
	Direction events.Direction `json:"direction"`
}

// JoinRequest is what an importing site says to the token's site.
type JoinRequest struct {
	Pool      string           `json:"pool"`
	Token     string           `json:"token"` // the token's public id
	Secret    string           `json:"secret"`
	Site      string           `json:"site"`
	UUID      string           `json:"uuid"`
	URL       string           `json:"url"`
	Direction events.Direction `json:"direction"`
	// Number is the importing site's number; zero is not checked.
	Number uint16 `json:"number"`
	// Key is the public half of the importing site's key, with which it will come in.
	Key string `json:"key,omitempty"`
	// Auth: the NATS at URL lets only users in.
	Auth bool `json:"auth,omitempty"`
}

// JoinReply tells the importing site whom it joined, and which site numbers are taken.
type JoinReply struct {
	Site    string   `json:"site"`
	UUID    string   `json:"uuid"`
	Numbers []uint16 `json:"numbers"`
	// Number is the answering site's own.
	Number uint16 `json:"number"`
	// Taken is set when the importing site's number is among Numbers: it has not been
	// let in, and asks again under another.
	Taken bool `json:"taken"`
	// Key is the public half of the answering site's key, with which it will come in.
	Key string `json:"key,omitempty"`
}

// Peer is another site that shares a pool.
type Peer struct {
	Peer      string           `json:"peer"` // its UUID
	Site      string           `json:"site"`
	URL       string           `json:"url"`
	Direction events.Direction `json:"direction"`
	Since     events.Instant   `json:"since"`
}

// PeerRemoveRequest names a peer by UUID or site name.
type PeerRemoveRequest struct {
	Pool string `json:"pool"`
	Peer string `json:"peer"`
}
