package api

import "tidemark/events"

// Requests about one directory, answered by the service that holds it: the journal
// service where the site is primary, the replayer where it follows. A request that
// needs a primary is refused with not_primary by a follower.
const (
	ImageCreate = "image.create" // ImageCreateRequest -> Image
	ImageList   = "image.list"   // Nothing -> []Image
	ImageInfo   = "image.info"   // ImageRequest -> Image
	ImageResize = "image.resize" // ImageResizeRequest -> Image
	ImageRemove = "image.remove" // ImageRequest -> Nothing
	ImageRename = "image.rename" // ImageNameRequest -> Image
	ImageLink   = "image.link"   // ImageNameRequest -> Image
	ImageClone  = "image.clone"  // ImageCloneRequest -> Image
	// ImageFlatten is answered when the image stands on its own: see [OnLong].
	ImageFlatten  = "image.flatten"  // ImageRequest -> Image
	ImageFeature  = "image.feature"  // ImageFeatureRequest -> Image
	ImageFill     = "image.fill"     // ImageFillRequest -> Nothing
	ImageCompare  = "image.compare"  // ImageCompareRequest -> Nothing
	MetadataSet   = "meta.set"       // MetadataRequest -> Nothing
	MetadataList  = "meta.list"      // ImageRequest -> map[string]string
	MetadataUnset = "meta.remove"    // MetadataRequest -> Nothing
	SnapCreate    = "snap.create"    // SnapRequest -> []Snapshot
	SnapList      = "snap.list"      // ImageRequest -> []Snapshot; of all images without a name
	SnapRemove    = "snap.remove"    // SnapRequest -> Nothing
	SnapRename    = "snap.rename"    // SnapRenameRequest -> Snapshot
	SnapProtect   = "snap.protect"   // SnapRequest -> Snapshot
	SnapUnprotect = "snap.unprotect" // SnapRequest -> Snapshot
	SnapRollback  = "snap.rollback"  // SnapRequest -> Nothing
	SnapLimit     = "snap.limit"     // SnapLimitRequest -> Nothing

	JournalInfo       = "journal.info"       // Nothing -> Journal
	JournalStatus     = "journal.status"     // Nothing -> JournalState
	JournalTags       = "journal.tags"       // Nothing -> []Tag
	JournalReset      = "journal.reset"      // Nothing -> Nothing
	JournalDisconnect = "journal.disconnect" // JournalClientRequest -> Nothing
	// JournalImport replays events that another journal, or this one, once held.
	JournalImport = "journal.import" // JournalImportRequest -> JournalImportReply

	DirectoryStatus = "status"       // Nothing -> Status
	SyncBegin       = "sync.begin"   // SyncBeginRequest -> holder.SyncBeginReply
	SyncCheck       = "sync.check"   // SyncCheckRequest -> SyncCheckReply
	SyncObjects     = "sync.objects" // SyncObjectsRequest -> SyncObjectsReply
	// SyncStart and SyncObject are answered in binary, in several messages.
	SyncStart  = "sync.start"  // SyncStartRequest
	SyncObject = "sync.object" // SyncObjectRequest
	SyncEnd    = "sync.end"    // SyncEndRequest -> Nothing
	// PositionReport says how far a follower has come, which the holder keeps in POSITIONS.
	PositionReport = "position"      // PositionReportRequest -> PositionReportReply
	PositionLast   = "position.last" // PositionLastRequest -> PositionLastReply
)

// What followers ask, and nobody else: those that begin with sync and with verify.
const (
	SyncRequests   = "sync.*"
	VerifyRequests = "verify.*"
)

// HolderSubjects matches every request about a directory.
const HolderSubjects = "tidemark.api.holder.>"

// HolderSubject returns the subject of a request about a directory.
func HolderSubject(id events.DirectoryID, request string) string {
	return "tidemark.api.holder." + string(id) + "." + request
}

// Image describes an image.
type Image struct {
	ID         events.ImageID     `json:"id"`
	Name       string             `json:"name"`        // POOL/DIR/IMAGE
	Image      string             `json:"image"`       // the last component
	Size       uint64             `json:"size"`        // bytes
	ObjectSize uint64             `json:"object_size"` // bytes
	Objects    uint64             `json:"objects"`     // objects that hold data
	UsedBytes  uint64             `json:"used_bytes"`  // allocated at this copy
	ReadOnly   bool               `json:"read_only"`
	Version    events.Position    `json:"version"`
	Directory  events.DirectoryID `json:"directory"`
	// Names are all names of the image, Image among them, in order.
	Names    []string `json:"names"`
	Features []string `json:"features"`
	// Parent is the snapshot that a clone stands on, IMAGE@SNAPSHOT; empty otherwise.
	Parent        string `json:"parent,omitempty"`
	Snapshots     int    `json:"snapshots"`
	SnapshotLimit uint32 `json:"snapshot_limit"` // zero: none of its own
	// ConflictOf is set for an image of a copy that a resync gave up: the name that it had.
	ConflictOf string `json:"conflict_of,omitempty"`
}

// ImageRequest names an image of the directory.
type ImageRequest struct {
	Image string `json:"image"`
}

// ImageCreateRequest asks for a new image.
type ImageCreateRequest struct {
	Image      string `json:"image"`
	Size       uint64 `json:"size"`        // bytes
	ObjectSize uint64 `json:"object_size"` // bytes; zero: 4 MiB
}

// ImageResizeRequest asks for another size.
type ImageResizeRequest struct {
	Image       string `json:"image"`
	Size        uint64 `json:"size"` // bytes
	AllowShrink bool   `json:"allow_shrink"`
}

// Status is a directory as its holder sees it.
type Status struct {
	ID   events.DirectoryID `json:"id"`
	Name string             `json:"name"`
	Node string             `json:"node"`
	Role events.Role        `json:"role"`
	// Primary is the name of the site that owns the directory, as far as known here.
	Primary string `json:"primary"`
	// State is, at the owner, one of those of services/journal, or full instead of ready
	// while writers wait for room; at a follower one of those of services/replayer, or stalled.
	State      string      `json:"state"`
	Error      string      `json:"error,omitempty"`
	Tag        events.Tag  `json:"tag"`
	Owner      string      `json:"owner"`    // the site that gave out the tag
	Position   events.Mark `json:"position"` // how far the journal reaches here
	Safe       events.Mark `json:"safe"`
	Applied    events.Mark `json:"applied"`
	Committed  events.Mark `json:"committed"`
	Lag        Lag         `json:"lag"` // at a follower: behind the primary
	Clients    []Client    `json:"clients"`
	Durability string      `json:"durability"`
	Progress   *Progress   `json:"progress,omitempty"` // of a first sync or resync
	// Split is set while the history here and that of another site have parted, or the
	// other site is primary too.
	Split *Split `json:"split,omitempty"`
	// Failures and Recoveries count, at a follower, how often it failed to follow for good, and
	// how often it followed again, since its node holds the directory.
	Failures   uint64 `json:"failure_count"`
	Recoveries uint64 `json:"recovery_count"`
	// Ahead is, at a follower, what a forced promotion would lose as far as it is known.
	Ahead      *Ahead `json:"ahead,omitempty"`
	Stream     string `json:"stream"`
	Bytes      uint64 `json:"journal_bytes"`
	BytesLimit uint64 `json:"journal_limit_bytes"` // 0: none
	// Since is when the oldest message of the journal was stored here; absent for none.
	Since events.Instant `json:"journal_since,omitempty"`
}

// Lag is the distance to the primary, from one reading.
type Lag struct {
	Entries uint64  `json:"entries_behind"`
	Bytes   uint64  `json:"bytes_behind"`
	Seconds float64 `json:"seconds_behind"`
	// Unheard is for how many seconds nothing was heard of the primary, if that is longer
	// than it should be: entries and bytes are of then, seconds have gone on.
	Unheard float64 `json:"seconds_unheard,omitempty"`
}

// Client is a consumer of the directory's journal.
type Client struct {
	ID       string             `json:"id"`
	Role     events.Role        `json:"role"`
	State    events.ClientState `json:"state"`
	Position events.Position    `json:"commit_position"`
	Entries  uint64             `json:"entries_behind"`
	Bytes    uint64             `json:"bytes_behind"`
	Seen     events.Instant     `json:"seen"`
}

// Progress tells how far a sync has come.
type Progress struct {
	Objects      uint64 `json:"objects"`
	ObjectsTotal uint64 `json:"objects_total"`
	Bytes        uint64 `json:"bytes"`
	// BytesTotal is how many bytes there were to copy when the copying began or went on;
	// zero if that is not known.
	BytesTotal uint64 `json:"bytes_total,omitempty"`
	// Rate is in bytes per second, over the last few seconds.
	Rate float64 `json:"rate,omitempty"`
	// SecondsLeft is how long the rest takes at that rate; zero if that is not known.
	SecondsLeft float64 `json:"seconds_left,omitempty"`
}

// SyncBeginRequest is how a follower makes itself known to a directory's owner.
type SyncBeginRequest struct {
	Client string `json:"client"` // SITE.NODE
	Site   string `json:"site"`   // UUID of the follower's site, a peer of the pool
	// Mark is how far the follower's copy reaches; zero for one that is empty.
	Mark events.Mark `json:"mark"`
	// Copying: the follower is going to ask for objects.
	Copying bool `json:"copying"`
	// Tip, if it is there, is where the follower's history ends: it is made known only if the
	// owner's leads through there.
	Tip *Tip `json:"tip,omitempty"`
}

// Tip is the end of a history.
type Tip struct {
	History string            `json:"history"` // whose life of the directory it is; empty: not known
	Claim   events.TagClaimed `json:"claim"`   // of the last tag
	End     events.Mark       `json:"end"`
}

// PositionReportRequest is what a follower says of itself.
type PositionReportRequest struct {
	Position events.PositionCommitted `json:"position"`
	// Over is the sequence of the last word on the client, if it is to be replaced by this one
	// alone; zero: whatever it is.
	Over uint64 `json:"over,omitempty"`
}

// PositionReportReply answers it.
type PositionReportReply struct {
	// Overtaken: the last word was another one, and stands.
	Overtaken bool `json:"overtaken"`
}

// PositionLastRequest asks for the last word on a client.
type PositionLastRequest struct {
	Client string `json:"client"` // SITE.NODE
}

// PositionLastReply answers it.
type PositionLastReply struct {
	Sequence uint64 `json:"sequence"`
}

// SyncCheckRequest is how a follower asks now and then whether it may still follow.
type SyncCheckRequest struct {
	Client string `json:"client"` // SITE.NODE
	Site   string `json:"site"`   // UUID of the follower's site
}

// SyncCheckReply tells a follower that may follow whether the journal still waits for it.
type SyncCheckReply struct {
	// Disconnected: what the follower needs may be gone; it must sync again.
	Disconnected bool `json:"disconnected"`
}

// SyncStartRequest asks for what a first sync begins with, which is sent like an object: its
// JSON (replica.SyncStart) is the data of the parts of object 0 of layer 0.
type SyncStartRequest struct {
	Hold uint64 `json:"hold"`
}

// SyncEndRequest says that everything is copied.
type SyncEndRequest struct {
	Hold uint64 `json:"hold"`
}

// SyncObjectsRequest asks which objects of a layer were ever written, from an index on.
type SyncObjectsRequest struct {
	Hold  uint64 `json:"hold"` // of SyncBegin; one that has ended is refused with not_ready
	Layer uint32 `json:"layer"`
	From  uint64 `json:"from"`
	// Imprints asks for what tells whether the asker has the same of an object.
	Imprints bool `json:"imprints,omitempty"`
}

// SyncObjectsReply lists objects in ascending order. Next is where to ask on; zero when
// the list is complete.
type SyncObjectsReply struct {
	Objects []uint64 `json:"objects"`
	Bytes   []uint64 `json:"bytes,omitempty"` // of data that each of Objects holds
	Next    uint64   `json:"next"`
	// Versions and Bitmaps describe each of Objects: its version as a number, and the
	// digests of its bitmaps one behind the other. What has a version includes all entries
	// up to AtLeast that changed it.
	Versions []uint64        `json:"versions,omitempty"`
	Bitmaps  []byte          `json:"bitmaps,omitempty"`
	AtLeast  events.Position `json:"at_least,omitzero"`
}

// SyncObjectRequest asks for an object's content, which is sent to the request's reply
// subject as a series of [events.ObjectPart]; an error is sent as an answer of package api.
type SyncObjectRequest struct {
	Hold  uint64 `json:"hold"` // as in SyncObjectsRequest
	Layer uint32 `json:"layer"`
	Index uint64 `json:"index"`
	// Have marks blocks that the asker has, like ObjectPart.Blocks, and Digests are theirs,
	// one behind the other: what is the same is left out of the answer.
	Have    []byte `json:"have,omitempty"`
	Digests []byte `json:"digests,omitempty"`
}
