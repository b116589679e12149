package replayer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// turn does something random to a directory through its owner; what is refused is left out.
func (p *party) turn(rng *rand.Rand) {
	p.t.Helper()
	images := must[[]api.Image](p, api.ImageList, api.Nothing{})
	fresh := fmt.Sprint("i", rng.IntN(12))
	if len(images) == 0 {
		must[api.Image](p, api.ImageCreate, api.ImageCreateRequest{Image: fresh, Size: 1 << 20, ObjectSize: 64 << 10})
		return
	}
	image := images[rng.IntN(len(images))].Image
	snap := api.SnapRequest{Image: image, Snapshot: fmt.Sprint("s", rng.IntN(3))}
	size := uint64(1+rng.IntN(24)) * 48 << 10
	var err error
	switch rng.IntN(12) {
	case 0:
		_, err = ask[api.Image](p, api.ImageCreate, api.ImageCreateRequest{Image: fresh, Size: size, ObjectSize: 32 << 10 << rng.IntN(2)})
	case 1:
		_, err = ask[api.Image](p, api.ImageResize, api.ImageResizeRequest{Image: image, Size: size, AllowShrink: true})
	case 2:
		_, err = ask[api.Nothing](p, api.ImageRemove, api.ImageRequest{Image: image})
	case 3, 4:
		_, err = ask[[]api.Snapshot](p, api.SnapCreate, snap)
	case 5, 6:
		_, err = ask[api.Nothing](p, api.SnapRemove, snap)
	case 7:
		_, err = ask[api.Nothing](p, api.SnapRollback, snap)
	case 8:
		if _, err = ask[api.Snapshot](p, api.SnapProtect, snap); err == nil {
			_, err = ask[api.Image](p, api.ImageClone, api.ImageCloneRequest{Image: image, Snapshot: snap.Snapshot, NewName: fresh})
		}
	default:
		p.random(rng, image)
	}
	if code := fault.CodeOf(err); code == fault.Internal || code == fault.Timeout || code == fault.Corrupt {
		p.t.Fatal(err)
	}
}

// random writes and discards ranges of an image.
func (p *party) random(rng *rand.Rand, image string) {
	p.t.Helper()
	info := must[api.Image](p, api.ImageInfo, api.ImageRequest{Image: image})
	for range 1 + rng.IntN(6) {
		length := 1 + rng.Uint64N(min(info.Size, 40<<10))
		off := rng.Uint64N(info.Size - length + 1)
		data := make([]byte, length)
		if rng.IntN(4) > 0 {
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
		}
		p.write(image, data, off)
	}
}

// Whatever two sites do after they parted, while both give space back, the one that gives up
// holds in the end what the other does: every image and every snapshot. Then the
// other one gives up.
func TestResyncOfRandomHistories(t *testing.T) {
	t.Parallel()
	for seed := range sitetest.Rounds(uint64(4)) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 77))
			east, west := newPair(t)
			east.own("")
			turns := func(p *party, n int) {
				for range n {
					p.turn(rng)
				}
			}
			turns(east, 25)
			west.follow()
			west.sameAs(east)
			keeps, gives := east, west
			for round := uint64(1); round < 4; round++ {
				gives.release()
				gives.own(events.TagForced)
				for range 4 {
					turns(east, 5)
					turns(west, 5)
				}
				gives.release()
				gives.acquire(round, false)
				turns(keeps, 5)
				gives.sameAs(keeps)
				turns(keeps, 10)
				gives.sameAs(keeps)
				keeps.release()
				keeps.follow()
				sitetest.Eventually(t, "the demotion arrives", func() bool {
					own := gives.follower.followers[gives.id].copy()
					return own != nil && own.replica.Tag().Reason == events.TagDemoted
				})
				gives.release()
				gives.own(events.TagPromoted)
				keeps.sameAs(gives)
				keeps, gives = gives, keeps
			}
		})
	}
}

// The decision that the new copy takes the old one's place holds, whoever opens the directory
// next: here it is promoted.
func TestPromotionCarriesOutWhatWasDecided(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	east, west, rng := splitBrain(t, 1, size)
	east.scribble(rng, "disk0", size, 20)
	west.scribble(rng, "disk0", size, 20)
	west.release()
	west.stop()
	killed := errors.New("the process is dead")
	fsys := vfs.NewFaulty(vfs.OS(), func(op vfs.Op) error {
		if op.Kind == vfs.OpRename && strings.HasSuffix(op.Name, ".resync") {
			return killed
		}
		return nil
	})
	west.follower = New(Deps{Bus: west.at.Bus, Node: west.at.Node, Log: west.at.Log, JournalBytesMax: 1 << 30, FS: fsys})
	west.stop = sitetest.Run(t, west.follower.Run)
	<-west.follower.Ready()
	west.acquire(1, true)
	sitetest.Eventually(t, "it is decided, and not carried out", func() bool {
		status, err := ask[api.Status](west, api.DirectoryStatus, api.Nothing{})
		return err == nil && strings.Contains(status.Error, killed.Error())
	})
	west.stop()
	west.restartFollower()
	want := east.read("vms/prod/disk0")
	east.release()
	west.own(events.TagForced)
	if got := west.read("vms/prod/disk0"); string(got) != string(want) {
		t.Error("what was promoted is not the new copy")
	}
	if n := len(west.conflicts()); n != 1 {
		t.Errorf("%d images are kept", n)
	}
	west.scribble(rng, "disk0", size, 5)
	west.restartOwner()
	west.own("")
	if west.beside() {
		t.Error("something is left beside")
	}
}

// A source that goes away in the middle of a resync, and comes back, finds the resync where
// it was.
func TestSourceIsStartedAgainDuringAResync(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	east, west, rng := splitBrain(t, 1, size)
	east.scribble(rng, "disk0", size, 200)
	west.release()
	west.limit(256 << 10)
	west.acquire(1, false)
	west.copying()
	east.owns.Store(false)
	east.restartOwner()
	sitetest.Eventually(t, "west waits", west.shows(Resyncing, "waits for a primary"))
	east.own("")
	east.scribble(rng, "disk0", size, 20)
	west.limit(0)
	west.sameAs(east)
}
