package replayer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/sitetest"
)

// resync has a site that follows, or is to, give up what only it has.
func (p *party) resync(number uint64, keep bool) {
	p.t.Helper()
	p.letGo()
	p.acquire(number, keep)
}

// letGo has a follower let go of the directory, keeping nothing in motion.
func (p *party) letGo() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), sitetest.Patience)
	defer cancel()
	_, quiesced, err := p.follower.Release(ctx, &events.ReleaseRequested{
		Assignment: events.Assignment{Operation: "4", Directory: p.id, Role: events.Slave, Epoch: 2}, Pool: "vms", Path: "/prod",
	})
	if err != nil || !quiesced {
		p.t.Fatalf("%s: let go: quiesced %v, %v", p.at.Node.Site.Name, quiesced, err)
	}
}

func (p *party) acquire(number uint64, keep bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), sitetest.Patience)
	defer cancel()
	_, err := p.follower.Acquire(ctx, &events.AcquireRequested{
		Assignment: events.Assignment{Operation: "5", Directory: p.id, Role: events.Slave, Epoch: 2},
		Pool:       "vms", Path: "/prod", Resync: number, KeepRefused: keep,
	})
	if err != nil {
		p.t.Fatalf("%s: follow: %v", p.at.Node.Site.Name, err)
	}
}

func (p *party) shows(state State, why string) func() bool {
	return func() bool {
		status, err := ask[api.Status](p, api.DirectoryStatus, api.Nothing{})
		return err == nil && status.State == string(state) && strings.Contains(status.Error, why)
	}
}

// notes returns what a site noted of a kind, oldest first.
func (p *party) notes(what events.Lifecycle) []string {
	p.t.Helper()
	select {
	case <-p.follower.shared.Notes.Flush(): // what was said is stored
	case <-time.After(3 * time.Second): // the follower does not run
	}
	state, err := p.at.Bus.State(p.t.Context(), events.StreamLifecycle)
	if err != nil {
		p.t.Fatal(err)
	}
	var all []string
	err = p.at.Bus.ReadTo(p.t.Context(), events.StreamLifecycle, state.First, state.Last, func(m bus.Message) error {
		fact, err := events.Unmarshal(m.Data)
		if note, ok := fact.(*events.LifecycleNoted); ok && note.What == what {
			all = append(all, note.Detail)
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return all
}

// findingBytes bounds what is read of a journal to find the place in it, whatever the image's
// size: one message.
const findingBytes = events.MessageBytesMax

// travelled returns what the last resync that ended says it cost, in bytes.
func (p *party) travelled() (bytes uint64) {
	p.t.Helper()
	notes := p.notes(events.ResyncEnded)
	if len(notes) == 0 {
		p.t.Fatal("no resync ended")
	}
	if _, err := fmt.Sscanf(notes[len(notes)-1], "request %d: %d bytes travelled", new(uint64), &bytes); err != nil {
		p.t.Fatal(err)
	}
	return bytes
}

// scribble writes random blocks of 4 KiB to an image.
func (p *party) scribble(rng *rand.Rand, image string, size uint64, blocks int) {
	p.t.Helper()
	dev := p.open("vms/prod/" + image)
	defer func() { _ = dev.Close(context.Background()) }()
	const depth = 64
	done := make(chan error, depth)
	flying := 0
	settle := func(most int) {
		for ; flying > most; flying-- {
			if err := <-done; err != nil {
				p.t.Fatal(err)
			}
		}
	}
	for range blocks {
		settle(depth - 1)
		data := make([]byte, 4096)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		dev.Write(context.Background(), data, rng.Uint64N(size/4096)*4096, false, func(err error) { done <- err })
		flying++
	}
	settle(0)
}

// splitBrain makes two sites that were level both write: west was promoted by force, and is
// to give that up.
func splitBrain(t testing.TB, images int, size uint64) (east, west *party, rng *rand.Rand) {
	t.Helper()
	rng = rand.New(rand.NewPCG(1, 2))
	east, west = newPair(t)
	east.own("")
	for i := range images {
		name := fmt.Sprint("disk", i)
		must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: name, Size: size})
		for off := uint64(0); off < size; off += 256 << 10 {
			data := make([]byte, 256<<10)
			for j := range data {
				data[j] = byte(rng.Uint32())
			}
			east.write(name, data, off)
		}
	}
	west.follow()
	west.sameAs(east)
	west.release()
	west.own(events.TagForced)
	return east, west, rng
}

// journal 302, rivals 9: after a split brain the side that is told to gives up what it has,
// and only what differs travels.
func TestResyncAfterSplitBrain(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	east, west, rng := splitBrain(t, 1, size)
	east.scribble(rng, "disk0", size, size/4096/100)
	west.scribble(rng, "disk0", size, size/4096/100)
	must[api.Image](west, api.ImageCreate, api.ImageCreateRequest{Image: "onlyhere", Size: 1 << 20})
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "onlythere", Size: 1 << 20})
	west.release()
	west.follow()
	sitetest.Eventually(t, "the split brain is seen", west.shows(SplitBrain, ""))
	west.resync(1, false)
	west.sameAs(east)
	if got := west.travelled(); got > size*3/100+findingBytes {
		t.Errorf("%d bytes travelled, %.2f %% of the image", got, float64(got)*100/size)
	}
	// It goes on, and it is done once.
	east.write("disk0", []byte("after"), 12345)
	west.sameAs(east)
	west.letGo()
	west.restartFollower()
	west.acquire(1, false)
	east.write("disk0", []byte("later"), 54321)
	west.sameAs(east)
	if n := len(west.notes(events.ResyncStarted)); n != 1 {
		t.Errorf("%d resyncs began", n)
	}
}
