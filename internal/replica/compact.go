package replica

import (
	"context"

	"tidemark/events"
)

// hole is a range of a layer's file that holds nothing any more.
type hole struct {
	layer    *layer
	from, to uint64 // bytes
}

func (r *Replica) punchFreed(freed []hole) error { return nil }

// Compact takes one bounded step of giving back the space that removed snapshots and
// cut-off parents hold, and reports whether there is more to do. It changes no content and
// no version, is local and not logged, and writes go on between two steps. It does
// nothing while a first sync runs or has not caught up, nor while [Replica.HoldCompaction]
// is in force. The space returns with a later checkpoint.
func (r *Replica) Compact(ctx context.Context) (more bool, err error) { return false, ctx.Err() }

// Pull takes one bounded step of copying into a clone's own layers what it still reads
// from its parent's, whether it was flattened or is about to be, and returns how many
// objects are left. It changes no content and no version.
func (r *Replica) Pull(ctx context.Context, image events.ImageID) (left uint64, err error) {
	return 0, ctx.Err()
}

// HoldCompaction keeps layers from being merged until release is called, once or more: a
// source of a first sync holds it from [Replica.SyncStart] until the last object is copied.
func (r *Replica) HoldCompaction() (release func()) { return func() {} }
