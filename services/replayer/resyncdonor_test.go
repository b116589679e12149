package replayer

import (
	"bytes"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/replica"
)

// An object is taken from the old copy only if version and bitmaps are those of the source:
// compaction changes the one and not the other.
func TestDonorHasTheVerySameOnly(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.create("disk0", 8<<20)
	data := bytes.Repeat([]byte{1}, 8192)
	o.entry(o.images[0], events.Written{Image: 1, Data: data}, 0, data)
	o.publish()
	o.settle()
	mine, err := o.replica.ImprintObject(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	other := mine.Bitmaps
	other[3] ^= 1
	page := func(version events.Position, bitmaps []byte) api.SyncObjectsReply {
		return api.SyncObjectsReply{Objects: []uint64{0}, Versions: []uint64{uint64(version)}, Bitmaps: bitmaps}
	}
	whole := &donor{replica: o.replica, whole: true, common: mine.Version}
	for _, c := range []struct {
		name string
		from *donor
		id   objectID
		page api.SyncObjectsReply
		want bool
	}{
		{"the same", whole, objectID{1, 0}, page(mine.Version, mine.Bitmaps[:]), true},
		{"a later version", whole, objectID{1, 0}, page(mine.Version+1, mine.Bitmaps[:]), false},
		{"other blocks", whole, objectID{1, 0}, page(mine.Version, other[:]), false},
		{"a source that says nothing of it", whole, objectID{1, 0}, api.SyncObjectsReply{Objects: []uint64{0}}, false},
		{"an object that it has not", whole, objectID{1, 1}, page(0, mine.Bitmaps[:]), false},
		{"a layer that it has not", whole, objectID{2, 0}, page(mine.Version, mine.Bitmaps[:]), false},
		{"behind what is common", &donor{replica: o.replica, whole: true, common: mine.Version - 1}, objectID{1, 0}, page(mine.Version, mine.Bitmaps[:]), false},
		{"a donor that failed", &donor{replica: o.replica, common: mine.Version}, objectID{1, 0}, page(mine.Version, mine.Bitmaps[:]), false},
		{"no donor", nil, objectID{1, 0}, page(mine.Version, mine.Bitmaps[:]), false},
	} {
		if got := c.from.has(c.id, c.page, 0); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	taken, err := whole.take(wanted{objectID: objectID{1, 0}, here: mine.Version + 7})
	if err != nil || taken.AtLeast != mine.Version+7 || taken.AtMost < taken.AtLeast || !bytes.Equal(taken.Data, data) {
		t.Errorf("taken: %+v, %v", taken.Version, err)
	}
	shown, err := whole.shown(wanted{objectID: objectID{9, 0}, like: replica.LayerRecord{ID: 9, Owner: 1, ObjectSize: replica.ObjectSizeDefault}})
	if err != nil || !bytes.Equal(shown.Data, data) {
		t.Errorf("shown of an unknown layer of a known image: %d bytes, %v", len(shown.Data), err)
	}
}
