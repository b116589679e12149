package replayer

import (
	"slices"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/holder"
	"tidemark/internal/lineage"
	"tidemark/internal/replica"
)

// donor is the copy that a resync is to replace: what it has need not travel. A nil donor
// has nothing.
type donor struct {
	replica *replica.Replica // nil: it cannot be opened
	// whole: its files hold what its versions say. Of one that is not, blocks are taken by
	// their digests alone.
	whole bool
	// outdated: nothing that only this copy has is given up, so that every source will do from
	// which a first sync would take.
	outdated bool
	// A version stands for one content only if it is of the history that the donor and the
	// source have in common, which ends at common, and lies behind unsure.
	common, unsure events.Position
}

// trust finds out which versions stand for one content in the donor and in the source, of
// whose history is told. Those behind the common history do not: a directory that was created
// again, or restored, gives out the same tags again. Nor do those up to a place where a lost
// journal was given up, because the images there hold parts of what was lost; tags that were
// forgotten may have been such places.
func (d *donor) trust(source lineage.History) {
	if !d.exact() {
		return
	}
	ours := holder.HistoryOf(d.replica)
	d.common = lineage.Compare(ours, source).Common.Position
	for _, tags := range [][]events.TagClaimed{ours.Tags, source.Tags} {
		for i, t := range tags {
			if i == 0 || t.Reason == events.TagLost {
				d.unsure = max(d.unsure, t.Predecessor.Position)
			}
		}
	}
}

func (d *donor) exact() bool { return d != nil && d.replica != nil && d.whole }

// has reports whether the donor has the very same of an object as a source, in whose list
// it is the i-th: of one version of a common history there is one content.
func (d *donor) has(id objectID, page api.SyncObjectsReply, i int) bool {
	if !d.exact() || len(page.Versions) != len(page.Objects) || len(page.Bitmaps) != replica.DigestSize*len(page.Objects) {
		return false
	}
	mine, err := d.replica.ImprintObject(id.layer, id.index)
	return err == nil && d.unsure < mine.Version && mine.Version <= d.common && uint64(mine.Version) == page.Versions[i] &&
		mine.Bitmaps == replica.Digest(page.Bitmaps[replica.DigestSize*i:][:replica.DigestSize])
}

// take returns an object of which the donor has the very same as the source. Nothing is
// applied to the donor, and nothing is merged in it, since that was found.
func (d *donor) take(w wanted) (replica.ObjectCopy, error) {
	object, err := d.replica.CopyObject(w.layer, w.index, nil)
	object.AtLeast, object.AtMost = w.here, max(w.here, object.Version)
	return object, err
}

// shown returns what the donor most likely has in the place of an object.
func (d *donor) shown(w wanted) (replica.ObjectCopy, error) {
	if d == nil || d.replica == nil {
		return replica.ObjectCopy{}, nil
	}
	object, err := d.replica.ShownObject(w.like, w.index, nil)
	object.Data = slices.Clip(object.Data)
	return object, err
}
