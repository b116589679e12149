package journaltext

import (
	"slices"

	"tidemark/events"
)

// Named are the names that belong to an event: those before it takes effect.
type Named struct {
	Image    string   `json:"image_name,omitempty"`    // of its image; of a clone, the parent's
	Snapshot string   `json:"snapshot_name,omitempty"` // of the snapshot that it numbers
	Images   []string `json:"image_names,omitempty"`   // of the images of new snapshots
}

// Names knows what the images and snapshots of a directory are called at one point of its
// journal.
type Names struct {
	images    map[events.ImageID][]string
	snapshots map[events.SnapshotID]string
	intents   map[events.Position]events.Event // of operations that are not finished
}

// NewNames returns names that know nothing.
func NewNames() *Names {
	return &Names{map[events.ImageID][]string{}, map[events.SnapshotID]string{}, map[events.Position]events.Event{}}
}

// AddImage says that an image has a name.
func (n *Names) AddImage(image events.ImageID, name string) {
	if name != "" && !slices.Contains(n.images[image], name) {
		n.images[image] = append(n.images[image], name)
	}
}

// AddSnapshot says what a snapshot is called.
func (n *Names) AddSnapshot(snapshot events.SnapshotID, name string) { n.snapshots[snapshot] = name }

// Becomes returns the fact that an entry makes true: the event itself, for the end of an
// operation what it was about, for its start what it will be about. It is nil for the end
// of one that failed, or whose start is not known.
func (n *Names) Becomes(e events.Event) events.Event {
	switch e := e.(type) {
	case events.OperationStarted:
		return e.Intent
	case events.OperationFinished:
		if e.Failure == "" {
			return n.intents[e.Started]
		}
		return nil
	}
	return e
}

// Of returns the names that belong to an entry's event, which [Names.Pass] has not passed.
func (n *Names) Of(e events.Event) Named {
	switch e := n.Becomes(e).(type) {
	case events.ImageCreated:
		return Named{Image: e.Name}
	case events.ImageCloned:
		return Named{Image: n.image(e.Parent), Snapshot: n.snapshots[e.Snapshot]}
	case events.ImageRenamed:
		return Named{Image: e.From}
	case events.ImageUnlinked:
		return Named{Image: e.Name}
	case events.SnapshotsCreated:
		named := Named{}
		for _, image := range e.Images {
			named.Images = append(named.Images, n.image(image))
		}
		return named
	case nil:
		return Named{}
	default:
		image, snapshot := subjectOf(e)
		return Named{Image: n.image(image), Snapshot: n.snapshots[snapshot]}
	}
}

// Complete reports whether nothing is missing that an import of the event needs.
func (n Named) Complete(fact events.Event) bool {
	if _, several := fact.(events.SnapshotsCreated); several {
		return !slices.Contains(n.Images, "")
	}
	image, snapshot := subjectOf(fact)
	return (image == 0 || n.Image != "") && (snapshot == 0 || n.Snapshot != "")
}

// subjectOf returns the numbers of the image and the snapshot that must have a name
// before an event; zero for none.
func subjectOf(e events.Event) (events.ImageID, events.SnapshotID) {
	if image, _, _, ok := events.Range(e); ok {
		return image, 0
	}
	switch e := e.(type) {
	case events.ImageResized:
		return e.Image, 0
	case events.ImageRemoved:
		return e.Image, 0
	case events.ImageCloned:
		return e.Parent, e.Snapshot
	case events.ImageRenamed:
		return e.Image, 0
	case events.ImageLinked:
		return e.Image, 0
	case events.ImageUnlinked:
		return e.Image, 0
	case events.ImageFlattened:
		return e.Image, 0
	case events.FeatureChanged:
		return e.Image, 0
	case events.MetadataSet:
		return e.Image, 0
	case events.MetadataRemoved:
		return e.Image, 0
	case events.SnapshotLimitChanged:
		return e.Image, 0
	}
	return snapshotSubject(e)
}

func snapshotSubject(e events.Event) (events.ImageID, events.SnapshotID) {
	switch e := e.(type) {
	case events.SnapshotRemoved:
		return e.Image, e.Snapshot
	case events.SnapshotRenamed:
		return e.Image, e.Snapshot
	case events.SnapshotProtected:
		return e.Image, e.Snapshot
	case events.SnapshotUnprotected:
		return e.Image, e.Snapshot
	case events.SnapshotRolledBack:
		return e.Image, e.Snapshot
	}
	return 0, 0
}

func (n *Names) image(id events.ImageID) string {
	if names := n.images[id]; len(names) > 0 {
		return names[0]
	}
	return ""
}

// Pass moves on over an entry. It returns the fact that the entry made true, nil for none.
func (n *Names) Pass(at events.Position, e events.Event) events.Event {
	fact := n.Becomes(e)
	switch e := e.(type) {
	case events.OperationStarted:
		n.intents[at] = e.Intent
		return nil
	case events.OperationFinished:
		delete(n.intents, e.Started)
	}
	switch e := fact.(type) {
	case events.ImageCreated:
		n.images[e.Image] = []string{e.Name}
	case events.ImageCloned:
		n.images[e.Image] = []string{e.Name}
	case events.ImageRemoved:
		delete(n.images, e.Image)
	case events.ImageRenamed:
		n.rename(e.Image, e.From, e.To)
	case events.ImageLinked:
		n.AddImage(e.Image, e.Name)
	case events.ImageUnlinked:
		n.drop(e.Image, e.Name)
	case events.SnapshotsCreated:
		for i := range e.Images {
			n.snapshots[e.First+events.SnapshotID(i)] = e.Name
		}
	case events.SnapshotRenamed:
		n.snapshots[e.Snapshot] = e.Name
	case events.SnapshotRemoved:
		delete(n.snapshots, e.Snapshot)
	}
	return fact
}

// Undo goes back over a fact that [Names.Pass] would return. What the fact took away and
// does not name stays unknown.
func (n *Names) Undo(fact events.Event) {
	switch e := fact.(type) {
	case events.ImageCreated:
		delete(n.images, e.Image)
	case events.ImageCloned:
		delete(n.images, e.Image)
	case events.ImageRenamed:
		n.rename(e.Image, e.To, e.From)
	case events.ImageLinked:
		n.drop(e.Image, e.Name)
	case events.ImageUnlinked:
		n.AddImage(e.Image, e.Name)
	case events.SnapshotsCreated:
		for i := range e.Images {
			delete(n.snapshots, e.First+events.SnapshotID(i))
		}
	case events.SnapshotRenamed:
		delete(n.snapshots, e.Snapshot)
	}
}

func (n *Names) rename(image events.ImageID, from, to string) {
	names := n.images[image]
	i := slices.Index(names, from)
	if i < 0 || slices.Contains(names, to) {
		n.drop(image, from)
		n.AddImage(image, to)
		return
	}
	names[i] = to
}

func (n *Names) drop(image events.ImageID, name string) {
	n.images[image] = slices.DeleteFunc(n.images[image], func(s string) bool { return s == name })
}
