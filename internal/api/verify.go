package api

import "tidemark/events"

// Requests that compare a follower's copy with what it follows. The first is the command's,
// the others are a follower's to its source, which answers with its own content.
const (
	// MirrorVerify is answered when everything was compared: see [OnLong]. It is refused
	// with usage where the directory is primary.
	MirrorVerify = "mirror.verify" // VerifyRequest -> Verified

	VerifyObjects = "verify.objects" // VerifyObjectsRequest -> holder.VerifyObjectsReply
	VerifyObject  = "verify.object"  // VerifyObjectRequest -> replica.ObjectDigest
	// VerifyOutline and VerifyContent are answered like SyncStart and SyncObject.
	VerifyOutline = "verify.outline" // VerifyOutlineRequest
	VerifyContent = "verify.content" // VerifyContentRequest
)

// VerifyRequest asks a follower to compare its copy with its source.
type VerifyRequest struct {
	// Repair: what differs is overwritten with the source's content.
	Repair bool `json:"repair"`
}

// Verified is what a comparison found. Everything was compared at Position or behind it:
// an object that no later entry changed as it was at Position, any other as one of the
// later entries left it; each at the same entry on both sides.
type Verified struct {
	Position   events.Position `json:"position"`
	Images     int             `json:"images"`
	Snapshots  int             `json:"snapshots"`
	Objects    uint64          `json:"objects"` // compared
	Bytes      uint64          `json:"bytes"`   // of those objects
	Mismatches []Mismatch      `json:"mismatches"`
	// MismatchesTotal counts those too for which there was no room in Mismatches.
	MismatchesTotal uint64  `json:"mismatches_total"`
	Repaired        uint64  `json:"repaired"` // mismatches that are no more
	Seconds         float64 `json:"seconds"`
}

// Mismatch is one object, or one thing that is not data, in which a copy differs.
type Mismatch struct {
	Image    string `json:"image"`
	Snapshot string `json:"snapshot"` // empty: what the image holds now
	Object   uint64 `json:"object"`
	Offset   uint64 `json:"offset"` // bytes of the image: where the first block lies that differs
	Length   uint64 `json:"length"` // bytes up to the end of the last one
	Blocks   uint64 `json:"blocks"` // how many differ; 0: something that is not data does
	Bytes    uint64 `json:"bytes"`  // in those blocks
	Repaired bool   `json:"repaired"`
	// Detail says what differs that is not data, or why it could not be repaired.
	Detail string `json:"detail,omitempty"`
}

// VerifyOutlineRequest asks for everything but data.
type VerifyOutlineRequest struct {
	Site string `json:"site"` // UUID of the follower's site
}

// VerifyObjectsRequest asks for the digests of the objects of an image or a snapshot that
// have a version, from an index on.
type VerifyObjectsRequest struct {
	Site     string            `json:"site"` // UUID of the follower's site
	Image    events.ImageID    `json:"image"`
	Snapshot events.SnapshotID `json:"snapshot"` // 0: what the image holds now
	From     uint64            `json:"from"`
}

// VerifyObjectRequest asks for the digests of one object's blocks.
type VerifyObjectRequest struct {
	Site     string            `json:"site"` // UUID of the follower's site
	Image    events.ImageID    `json:"image"`
	Snapshot events.SnapshotID `json:"snapshot"`
	Index    uint64            `json:"index"`
}

// VerifyContentRequest asks for the content of some blocks of an object, sent like the
// object of a first sync.
type VerifyContentRequest struct {
	VerifyObjectRequest
	Blocks []uint64 `json:"blocks"` // a bit for each block
}
