package replayer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/nbd"
	"tidemark/internal/sitetest"
)

const (
	chaosImages    = 5
	chaosSnapshots = 3
	chaosUnit      = 64 << 10
)

// chaos does random things to a directory: writes of every kind, and every operation.
type chaos struct {
	*party
	rand *rand.Rand
	done map[string]int // operations that succeeded, by kind
}

func newChaos(p *party, seed uint64) *chaos {
	return &chaos{p, rand.New(rand.NewPCG(seed, 3)), map[string]int{}}
}

// run does n things. What an operator may be refused is refused with its code; anything else
// fails the test.
func (c *chaos) run(n int) {
	for range n {
		if c.rand.IntN(3) > 0 {
			c.operate()
		} else {
			c.change()
		}
	}
}

// name is one of few names, so that they collide.
func (c *chaos) name(of string, n int) string { return fmt.Sprint(of, c.rand.IntN(n)) }

// image is one that is there, mostly.
func (c *chaos) image() string {
	all := must[[]api.Image](c.party, api.ImageList, api.Nothing{})
	if len(all) == 0 || c.rand.IntN(8) == 0 {
		return c.name("disk", 2*chaosImages)
	}
	return all[c.rand.IntN(len(all))].Image
}

func (c *chaos) operate() {
	image, other, snapshot := c.image(), c.name("disk", 2*chaosImages), c.name("snap", chaosSnapshots)
	snap := api.SnapRequest{Image: image, Snapshot: snapshot}
	had := snap // mostly one that is there
	if all := must[[]api.Snapshot](c.party, api.SnapList, api.ImageRequest{}); len(all) > 0 && c.rand.IntN(8) > 0 {
		one := all[c.rand.IntN(len(all))]
		had = api.SnapRequest{Image: one.Image, Snapshot: one.Snapshot}
	}
	requests := []struct {
		kind    string
		request any
	}{
		{api.ImageCreate, api.ImageCreateRequest{Image: image, Size: c.size(), ObjectSize: 1 << 20}},
		{api.ImageCreate, api.ImageCreateRequest{Image: image, Size: c.size()}},
		{api.ImageResize, api.ImageResizeRequest{Image: image, Size: c.size(), AllowShrink: true}},
		{api.ImageRemove, api.ImageRequest{Image: image}},
		{api.ImageRename, api.ImageNameRequest{Image: image, NewName: other}},
		{api.ImageLink, api.ImageNameRequest{Image: image, NewName: other}},
		{api.ImageClone, api.ImageCloneRequest{Image: had.Image, Snapshot: had.Snapshot, NewName: other}},
		{api.ImageClone, api.ImageCloneRequest{Image: had.Image, Snapshot: had.Snapshot, NewName: other}},
		{api.ImageFlatten, api.ImageRequest{Image: image}},
		{api.ImageFlatten, api.ImageRequest{Image: other}},
		{api.MetadataSet, api.MetadataRequest{Image: image, Key: c.name("key", 3), Value: c.name("value", 1000)}},
		{api.MetadataUnset, api.MetadataRequest{Image: image, Key: c.name("key", 3)}},
		{api.SnapCreate, snap},
		{api.SnapCreate, snap},
		{api.SnapCreate, api.SnapRequest{Snapshot: snapshot}},
		{api.SnapRemove, had},
		{api.SnapRemove, had},
		{api.SnapRename, api.SnapRenameRequest{Image: had.Image, Snapshot: had.Snapshot, NewName: c.name("snap", chaosSnapshots)}},
		{api.SnapProtect, had},
		{api.SnapProtect, had},
		{api.SnapUnprotect, had},
		{api.SnapRollback, had},
		{api.SnapLimit, api.SnapLimitRequest{Image: image, Limit: uint32(c.rand.IntN(4))}},
	}
	r := requests[c.rand.IntN(len(requests))]
	_, err := ask[any](c.party, r.kind, r.request)
	switch code := fault.CodeOf(err); code {
	case "":
		c.done[r.kind]++
	case fault.NotFound, fault.Exists, fault.Busy, fault.ReadOnly, fault.NoSpace, fault.Usage:
	default:
		c.t.Errorf("%s %+v: %v", r.kind, r.request, err)
	}
}

func (c *chaos) size() uint64 { return uint64(1+c.rand.IntN(6*16)) * chaosUnit }

// change writes, zeroes or discards in one image; what belongs to several entries too.
func (c *chaos) change() {
	ctx := context.Background()
	dev, err := c.exports().Open(ctx, "vms/prod/"+c.image())
	if fault.CodeOf(err) == fault.NotFound {
		return
	}
	if err != nil {
		c.t.Errorf("open: %v", err)
		return
	}
	defer func() { _ = dev.Close(ctx) }()
	var all sync.WaitGroup
	for range 1 + c.rand.IntN(8) {
		length := min(1+c.rand.Uint64N(1<<uint(9+c.rand.IntN(12))), dev.Info().Size)
		offset := c.rand.Uint64N(dev.Info().Size - length + 1)
		all.Add(1)
		done := func(err error) {
			defer all.Done()
			if code := fault.CodeOf(err); err != nil && code != fault.ReadOnly && code != fault.Usage {
				c.t.Errorf("change %d bytes at %d: %v", length, offset, err)
			}
		}
		switch c.rand.IntN(6) {
		case 0:
			dev.Zero(ctx, nbd.ZeroRequest{Offset: offset, Length: length}, done)
		case 1:
			dev.Flush(ctx, done)
		default:
			data := make([]byte, length)
			for i := 0; i < len(data); i += 97 {
				data[i] = byte(c.rand.Uint32())
			}
			dev.Write(ctx, data, offset, false, done)
		}
	}
	all.Wait()
}

// begin makes a few images.
func (c *chaos) begin() {
	c.t.Helper()
	for i := range chaosImages / 2 {
		must[api.Image](c.party, api.ImageCreate, api.ImageCreateRequest{Image: fmt.Sprint("disk", i), Size: c.size()})
	}
}

// Snapshots, clones, rollback, flatten, names, metadata and data follow, through a first sync
// in the middle of it, restarts of the follower, fail-over and back: at one position a
// replica holds what its owner holds.
//
// journal 242: write then start, start then write. journal 248: metadata follows.
// journal 263: first sync of random writes, resized images and snapshots.
func TestReplicaHoldsWhatItsOwnerHolds(t *testing.T) {
	t.Parallel()
	east, west := newPair(t)
	east.own("")
	c := newChaos(east, 1)
	c.begin()
	c.run(sitetest.Rounds(150))
	goneOn := make(chan struct{})
	go func() { defer close(goneOn); c.run(sitetest.Rounds(150)) }()
	west.follow() // while east goes on
	<-goneOn
	west.sameAs(east)
	c.run(sitetest.Rounds(200))
	west.restartFollower()
	west.follow()
	c.run(sitetest.Rounds(200))
	west.sameAs(east)
	for kind, n := range c.done {
		t.Logf("%s: %d", kind, n)
	}

	for range 2 { // over, and back
		before := west.sameAs(east)
		east.release()
		east.follow() // and so be who west gets the demotion from
		sawDemotion(t, west, east)
		west.release()
		west.own(events.TagPromoted)
		if got := west.holding(); len(got.Contents) != len(before.Contents) {
			t.Fatalf("%d exports after a fail-over, %d before", len(got.Contents), len(before.Contents))
		}
		east.sameAs(west)
		c.party = west
		c.run(sitetest.Rounds(100))
		east.sameAs(west)
		east, west = west, east
	}
}

// sawDemotion waits until a follower has received the demotion of an owner that was released.
func sawDemotion(t *testing.T, follower, owner *party) {
	t.Helper()
	sitetest.Eventually(t, "the demotion arrives", func() bool {
		own := follower.follower.followers[follower.id].copy()
		if own == nil {
			return false
		}
		tag := own.replica.Tag()
		return tag != nil && tag.Reason == events.TagDemoted && tag.Site == owner.at.Node.Site.UUID
	})
}
