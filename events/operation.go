package events

import "fmt"

// SnapshotID numbers a snapshot within its directory, from 1. It is never used again.
type SnapshotID uint32

// Bounds of what operations carry.
const (
	// SnapshotsMax is the most snapshots that an image can have.
	SnapshotsMax = 4096
	// MetadataKeyMax and MetadataValueMax bound an image's metadata, in bytes.
	MetadataKeyMax   = 255
	MetadataValueMax = 4096
)

// FeatureReadOnly is the feature of an image that refuses writes wherever it is opened.
const FeatureReadOnly = "read-only"

// An operation on images or snapshots is two entries. OperationStarted says what is about to
// become true; when the operation is done, OperationFinished makes it true, or says why it
// does not come to be. The number of an operation is the position of its start.
//
// The entry that makes a fact true (an OperationFinished without failure, or the fact by
// itself) names these versions: of ImageCreated and ImageCloned that of the name (absent:
// zero); of SnapshotsCreated those of its images, in order; of every other that of the
// image. A start, and a finish with a failure, name none.

// OperationStarted says that an operation has begun whose outcome will be Intent, one of
// the facts of this file but these two.
type OperationStarted struct {
	Intent Event
}

// OperationFinished says how the operation ended that began at Started: Failure is empty
// when its intent is true now, and otherwise the code of the error that ended it.
type OperationFinished struct {
	Started Position
	Failure string
}

// ImageCreated says that an image came to be, empty.
type ImageCreated struct {
	Image      ImageID
	Name       string
	Size       uint64 // bytes
	ObjectSize uint64 // bytes, a power of two
}

// ImageResized says that an image has a new size; what lies beyond it is gone.
type ImageResized struct {
	Image ImageID
	Size  uint64 // bytes
}

// ImageRemoved says that an image, all its names and its data are gone. It had no snapshots.
type ImageRemoved struct {
	Image ImageID
}

// ImageCloned says that an image came to be with the size and content of a protected
// snapshot of another image of the directory, whose layers it stands on.
type ImageCloned struct {
	Image    ImageID
	Name     string
	Parent   ImageID
	Snapshot SnapshotID
}

// ImageRenamed says that one of an image's names was replaced.
type ImageRenamed struct {
	Image ImageID
	From  string
	To    string
}

// ImageLinked says that an image has a further name.
type ImageLinked struct {
	Image ImageID
	Name  string
}

// ImageUnlinked says that an image lost one of its names; it was not the last.
type ImageUnlinked struct {
	Image ImageID
	Name  string
}

// ImageFlattened says that a clone no longer depends on its parent's snapshot.
type ImageFlattened struct {
	Image ImageID
}

// FeatureChanged says that a feature of an image was turned on or off.
type FeatureChanged struct {
	Image   ImageID
	Feature string
	Enabled bool
}

// MetadataSet says that a key of an image's metadata has a value.
type MetadataSet struct {
	Image ImageID
	Key   string
	Value string
}

// MetadataRemoved says that an image's metadata lost a key.
type MetadataRemoved struct {
	Image ImageID
	Key   string
}

// SnapshotsCreated says that images have a snapshot, all as of this position: the i-th
// image the one with number First+i, all under one name. Group tells a snapshot of the
// directory from one of an image.
type SnapshotsCreated struct {
	Name   string
	Group  bool
	First  SnapshotID
	Images []ImageID
}

// SnapshotRemoved says that a snapshot, neither protected nor a clone's parent, is gone.
type SnapshotRemoved struct {
	Image    ImageID
	Snapshot SnapshotID
}

// SnapshotRenamed says that a snapshot has another name.
type SnapshotRenamed struct {
	Image    ImageID
	Snapshot SnapshotID
	Name     string
}

// SnapshotProtected says that a snapshot cannot be removed and may have clones.
type SnapshotProtected struct {
	Image    ImageID
	Snapshot SnapshotID
}

// SnapshotUnprotected says that a snapshot without clones may be removed again.
type SnapshotUnprotected struct {
	Image    ImageID
	Snapshot SnapshotID
}

// SnapshotRolledBack says that an image has the size and content of one of its snapshots
// again. Every object's version becomes that of the entry.
type SnapshotRolledBack struct {
	Image    ImageID
	Snapshot SnapshotID
}

// SnapshotLimitChanged says how many snapshots an image may have; [SnapshotsMax] is no limit
// of its own.
type SnapshotLimitChanged struct {
	Image ImageID
	Limit uint32
}

func (OperationStarted) kind() eventKind     { return kindOperationStarted }
func (OperationFinished) kind() eventKind    { return kindOperationFinished }
func (ImageCreated) kind() eventKind         { return kindImageCreated }
func (ImageResized) kind() eventKind         { return kindImageResized }
func (ImageRemoved) kind() eventKind         { return kindImageRemoved }
func (ImageCloned) kind() eventKind          { return kindImageCloned }
func (ImageRenamed) kind() eventKind         { return kindImageRenamed }
func (ImageLinked) kind() eventKind          { return kindImageLinked }
func (ImageUnlinked) kind() eventKind        { return kindImageUnlinked }
func (ImageFlattened) kind() eventKind       { return kindImageFlattened }
func (FeatureChanged) kind() eventKind       { return kindFeatureChanged }
func (MetadataSet) kind() eventKind          { return kindMetadataSet }
func (MetadataRemoved) kind() eventKind      { return kindMetadataRemoved }
func (SnapshotsCreated) kind() eventKind     { return kindSnapshotsCreated }
func (SnapshotRemoved) kind() eventKind      { return kindSnapshotRemoved }
func (SnapshotRenamed) kind() eventKind      { return kindSnapshotRenamed }
func (SnapshotProtected) kind() eventKind    { return kindSnapshotProtected }
func (SnapshotUnprotected) kind() eventKind  { return kindSnapshotUnprotected }
func (SnapshotRolledBack) kind() eventKind   { return kindSnapshotRolledBack }
func (SnapshotLimitChanged) kind() eventKind { return kindSnapshotLimitChanged }

func (e OperationStarted) append(b []byte) []byte {
	k := e.Intent.kind()
	fields, _ := fieldsOf(k)
	return e.Intent.append(appendUint(appendArray(b, 1+fields), uint64(k)))
}

func (e OperationFinished) append(b []byte) []byte {
	return appendString(appendUint(b, uint64(e.Started)), e.Failure)
}

func (e ImageCreated) append(b []byte) []byte {
	b = appendUint(b, uint64(e.Image))
	b = appendString(b, e.Name)
	b = appendUint(b, e.Size)
	return appendUint(b, e.ObjectSize)
}

func (e ImageResized) append(b []byte) []byte {
	return appendUint(appendUint(b, uint64(e.Image)), e.Size)
}

func (e ImageRemoved) append(b []byte) []byte { return appendUint(b, uint64(e.Image)) }

func (e ImageCloned) append(b []byte) []byte {
	b = appendUint(b, uint64(e.Image))
	b = appendString(b, e.Name)
	b = appendUint(b, uint64(e.Parent))
	return appendUint(b, uint64(e.Snapshot))
}

func (e ImageRenamed) append(b []byte) []byte {
	b = appendUint(b, uint64(e.Image))
	b = appendString(b, e.From)
	return appendString(b, e.To)
}

func (e ImageLinked) append(b []byte) []byte {
	return appendString(appendUint(b, uint64(e.Image)), e.Name)
}

func (e ImageUnlinked) append(b []byte) []byte {
	return appendString(appendUint(b, uint64(e.Image)), e.Name)
}

func (e ImageFlattened) append(b []byte) []byte { return appendUint(b, uint64(e.Image)) }

func (e FeatureChanged) append(b []byte) []byte {
	b = appendUint(b, uint64(e.Image))
	b = appendString(b, e.Feature)
	return appendBool(b, e.Enabled)
}

func (e MetadataSet) append(b []byte) []byte {
	b = appendUint(b, uint64(e.Image))
	b = appendString(b, e.Key)
	return appendString(b, e.Value)
}

func (e MetadataRemoved) append(b []byte) []byte {
	return appendString(appendUint(b, uint64(e.Image)), e.Key)
}

func (e SnapshotsCreated) append(b []byte) []byte {
	b = appendString(b, e.Name)
	b = appendBool(b, e.Group)
	b = appendUint(b, uint64(e.First))
	return appendImages(b, e.Images)
}

func (e SnapshotRemoved) append(b []byte) []byte {
	return appendUint(appendUint(b, uint64(e.Image)), uint64(e.Snapshot))
}

func (e SnapshotRenamed) append(b []byte) []byte {
	b = appendUint(b, uint64(e.Image))
	b = appendUint(b, uint64(e.Snapshot))
	return appendString(b, e.Name)
}

func (e SnapshotProtected) append(b []byte) []byte {
	return appendUint(appendUint(b, uint64(e.Image)), uint64(e.Snapshot))
}

func (e SnapshotUnprotected) append(b []byte) []byte {
	return appendUint(appendUint(b, uint64(e.Image)), uint64(e.Snapshot))
}

func (e SnapshotRolledBack) append(b []byte) []byte {
	return appendUint(appendUint(b, uint64(e.Image)), uint64(e.Snapshot))
}

func (e SnapshotLimitChanged) append(b []byte) []byte {
	return appendUint(appendUint(b, uint64(e.Image)), uint64(e.Limit))
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, mpTrue)
	}
	return append(b, mpFalse)
}

func appendImages(b []byte, images []ImageID) []byte {
	b = appendArray(b, len(images))
	for _, image := range images {
		b = appendUint(b, uint64(image))
	}
	return b
}

// operationEvent reads an event of an operation.
func (r *reader) operationEvent(k eventKind) Event {
	switch k {
	case kindOperationStarted:
		return OperationStarted{r.intent()}
	case kindOperationFinished:
		return OperationFinished{Position(r.uint()), r.string()}
	default:
		return r.fact(k)
	}
}

// intent reads the fact that an operation is about: [kind, fields…].
func (r *reader) intent() Event {
	fields := r.array() - 1
	k := eventKind(r.limited(255, "an operation's kind"))
	wanted, known := fieldsOf(k)
	switch {
	case r.err != nil:
		return nil
	case !known:
		r.err = fmt.Errorf("operation of kind %d: %w", k, ErrFormat)
		return nil
	case fields < wanted:
		r.fail("an operation has too few fields")
		return nil
	}
	e := r.fact(k)
	if e == nil {
		r.fail("an operation is about no fact")
		return nil
	}
	for range fields - wanted {
		r.skip()
	}
	return e
}

// fact reads what an operation makes true; nil for another kind.
func (r *reader) fact(k eventKind) Event {
	if k >= kindSnapshotsCreated {
		return r.snapshotFact(k)
	}
	switch k {
	case kindImageCreated:
		return ImageCreated{r.image(), r.string(), r.uint(), r.uint()}
	case kindImageResized:
		return ImageResized{r.image(), r.uint()}
	case kindImageRemoved:
		return ImageRemoved{r.image()}
	case kindImageCloned:
		return ImageCloned{r.image(), r.string(), r.image(), r.snapshot()}
	case kindImageRenamed:
		return ImageRenamed{r.image(), r.string(), r.string()}
	case kindImageLinked:
		return ImageLinked{r.image(), r.string()}
	case kindImageUnlinked:
		return ImageUnlinked{r.image(), r.string()}
	case kindImageFlattened:
		return ImageFlattened{r.image()}
	case kindFeatureChanged:
		return FeatureChanged{r.image(), r.string(), r.bool()}
	case kindMetadataSet:
		return MetadataSet{r.image(), r.string(), r.string()}
	case kindMetadataRemoved:
		return MetadataRemoved{r.image(), r.string()}
	default:
		return nil
	}
}

func (r *reader) snapshotFact(k eventKind) Event {
	switch k {
	case kindSnapshotsCreated:
		return SnapshotsCreated{r.string(), r.bool(), r.snapshot(), r.images()}
	case kindSnapshotRemoved:
		return SnapshotRemoved{r.image(), r.snapshot()}
	case kindSnapshotRenamed:
		return SnapshotRenamed{r.image(), r.snapshot(), r.string()}
	case kindSnapshotProtected:
		return SnapshotProtected{r.image(), r.snapshot()}
	case kindSnapshotUnprotected:
		return SnapshotUnprotected{r.image(), r.snapshot()}
	case kindSnapshotRolledBack:
		return SnapshotRolledBack{r.image(), r.snapshot()}
	case kindSnapshotLimitChanged:
		return SnapshotLimitChanged{r.image(), r.uint32("a limit")}
	default:
		return nil
	}
}

func (r *reader) snapshot() SnapshotID { return SnapshotID(r.uint32("a snapshot's number")) }

func (r *reader) uint32(what string) uint32 { return uint32(r.limited(1<<32-1, what)) }

func (r *reader) images() []ImageID {
	n := r.array()
	if n > ObjectsPerEntryMax {
		r.fail("an operation is about too many images")
		return nil
	}
	images := make([]ImageID, 0, n)
	for range n {
		images = append(images, r.image())
	}
	return images
}
