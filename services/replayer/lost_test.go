package replayer

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/sitetest"
)

// loseTail has an owner lose the end of its journal, of which its files hold something that
// its versions do not tell, and give it up.
func (p *party) loseTail() {
	p.t.Helper()
	p.restartOwner()
	if err := p.at.Bus.RemoveLog(p.t.Context(), events.JournalStream(events.DirectoryName{Pool: "vms", Path: "/prod"}, p.id)); err != nil {
		p.t.Fatal(err)
	}
	layers, err := filepath.Glob(filepath.Join(p.at.Node.ReplicaDir(p.id), "layers", "*.img"))
	if err != nil || len(layers) != 1 {
		p.t.Fatalf("%v, %v", layers, err)
	}
	file, err := os.OpenFile(layers[0], os.O_WRONLY, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("written behind the checkpoint"), 100); err != nil {
		p.t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), sitetest.Patience)
	defer cancel()
	if _, err := p.owner.Acquire(ctx, &events.AcquireRequested{
		Assignment: events.Assignment{Operation: "1", Directory: p.id, Role: events.Master, Epoch: 1}, Pool: "vms", Path: "/prod",
	}); err == nil {
		p.t.Fatal("a journal that has lost its tail is opened")
	}
	sitetest.Eventually(p.t, "the lost part is given up", func() bool {
		_, err := ask[api.Nothing](p, api.JournalReset, api.Nothing{})
		return err == nil
	})
	sitetest.Eventually(p.t, "open again", func() bool {
		_, err := ask[[]api.Image](p, api.ImageList, api.Nothing{})
		return err == nil
	})
}

// After an owner gave up a tail that it had lost, its files hold what no version tells: a
// replica that is level with what is left may not go on, and a resync takes nothing by its
// version from a copy that is older than that, in either direction.
func TestLostTailIsNotFollowedByVersion(t *testing.T) {
	t.Parallel()
	east, west := levelPair(t)
	west.release()
	east.loseTail()
	west.follow()
	sitetest.Eventually(t, "west is disconnected", west.shows(Disconnected, ""))
	west.resync(1, true)
	west.sameAs(east)
	east.write("disk0", []byte("after"), 2<<20)
	west.sameAs(east)
}

// The torn copy is as little trusted when it is the one that is given up.
func TestLostTailIsNotKeptByVersion(t *testing.T) {
	t.Parallel()
	east, west := levelPair(t)
	west.release()
	west.own(events.TagForced)
	east.loseTail()
	east.release()
	east.resync(1, false)
	east.sameAs(west)
}
