package api

import "tidemark/events"

// ImageNameRequest asks for another, or a further, name of an image.
type ImageNameRequest struct {
	Image   string `json:"image"`
	NewName string `json:"new_name"` // in the same directory
}

// ImageCloneRequest asks for a new image on a protected snapshot.
type ImageCloneRequest struct {
	Image    string `json:"image"`
	Snapshot string `json:"snapshot"`
	NewName  string `json:"new_name"` // in the same directory
}

// ImageFeatureRequest turns a feature of an image on or off.
type ImageFeatureRequest struct {
	Image   string `json:"image"`
	Feature string `json:"feature"`
	Enabled bool   `json:"enabled"`
}

// ImageFillRequest asks for a range to be filled with copies of a pattern.
type ImageFillRequest struct {
	Image   string `json:"image"`
	Offset  uint64 `json:"offset"` // bytes
	Length  uint64 `json:"length"` // bytes, a multiple of the pattern's
	Pattern []byte `json:"pattern"`
}

// ImageCompareRequest asks for data to be written where other data is found, and for
// nothing where it is not: then the answer is a refusal with the code version_mismatch.
type ImageCompareRequest struct {
	Image   string `json:"image"`
	Offset  uint64 `json:"offset"` // bytes
	Compare []byte `json:"compare"`
	Data    []byte `json:"data"` // as long as Compare
}

// MetadataRequest names a key of an image's metadata. Value is ignored by MetadataUnset.
type MetadataRequest struct {
	Image string `json:"image"`
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Snapshot describes a snapshot of an image.
type Snapshot struct {
	ID        events.SnapshotID `json:"id"`
	Name      string            `json:"name"`     // POOL/DIR/IMAGE@SNAPSHOT
	Image     string            `json:"image"`    // the last component
	Snapshot  string            `json:"snapshot"` // behind the @
	Size      uint64            `json:"size"`     // bytes, of the image at that time
	Position  events.Position   `json:"position"` // at which it was made
	Created   events.Instant    `json:"created"`
	Protected bool              `json:"protected"`
	Group     bool              `json:"group"`      // made of the whole directory
	Children  int               `json:"children"`   // clones that stand on it
	UsedBytes uint64            `json:"used_bytes"` // held by this copy for it alone
}

// SnapRequest names a snapshot; without an image, of every image of the directory.
type SnapRequest struct {
	Image    string `json:"image"`
	Snapshot string `json:"snapshot"`
}

// SnapRenameRequest asks for another name of a snapshot.
type SnapRenameRequest struct {
	Image    string `json:"image"`
	Snapshot string `json:"snapshot"`
	NewName  string `json:"new_name"`
}

// SnapLimitRequest says how many snapshots an image may have; zero lifts the limit.
type SnapLimitRequest struct {
	Image string `json:"image"`
	Limit uint32 `json:"limit"`
}
