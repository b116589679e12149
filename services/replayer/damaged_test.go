package replayer

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/events"
	"tidemark/internal/sitetest"
)

// damageMetadata overwrites most of the metadata of a copy that nobody has open.
func (p *party) damageMetadata() {
	p.t.Helper()
	name := filepath.Join(p.at.Node.ReplicaDir(p.id), "meta.db")
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := file.WriteAt(noise(int(info.Size())-100), 100); err != nil {
		p.t.Fatal(err)
	}
}

// refuses demands that a copy is not opened, for a reason that names what mends it.
func (p *party) refuses(resync uint64, keep bool, why string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), sitetest.Patience)
	defer cancel()
	_, err := p.follower.Acquire(ctx, &events.AcquireRequested{
		Assignment: events.Assignment{Operation: "5", Directory: p.id, Role: events.Slave, Epoch: 2},
		Pool:       "vms", Path: "/prod", Resync: resync, KeepRefused: keep,
	})
	if err == nil || !strings.Contains(err.Error(), "tidemark mirror resync vms/prod") || !strings.Contains(err.Error(), why) {
		p.t.Errorf("request %d: %v", resync, err)
	}
}

// A copy whose metadata are damaged is not opened, and says which command mends that; asked
// for, it does, and nothing is made anew by itself, not even by a request from before.
func TestResyncMendsDamagedMetadata(t *testing.T) {
	t.Parallel()
	east, west := levelPair(t)
	for asked := range uint64(2) {
		west.letGo()
		west.damageMetadata()
		west.refuses(asked, false, "metadata")
		west.restartFollower()
		west.refuses(asked, false, "metadata") // again, as policy does
		west.refuses(asked+1, true, "without --keep-refused")
		west.acquire(asked+1, false)
		west.sameAs(east)
		east.write("disk0", []byte("goes on"), 2<<20)
		west.sameAs(east)
		west.letGo()
		west.acquire(asked+1, false) // it was carried out
		west.sameAs(east)
		if n := len(west.notes(events.ResyncEnded)); n != int(asked)+1 {
			t.Errorf("%d resyncs", n)
		}
	}
}
