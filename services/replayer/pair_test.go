package replayer

import (
	"context"
	"crypto/sha256"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/nbd"
	"tidemark/internal/sitetest"
	"tidemark/services/journal"
)

// party is a site with both services that hold directories, and one directory. The test
// plays policy and notifier.
type party struct {
	t         testing.TB
	at        *sitetest.Site
	id        events.DirectoryID
	owner     *journal.Service
	follower  *Service
	owns      atomic.Bool
	stopOwner func()
	stop      func() // of the follower
}

// newPair starts two sites that are peers of each other.
func newPair(t testing.TB) (east, west *party) {
	t.Helper()
	east, west = newParty(t, "east", eastID), newParty(t, "west", westID)
	befriend(t, east, west, east.at.Server.URL(), west.at.Server.URL())
	return east, west
}

func newParty(t testing.TB, name string, id events.DirectoryID) *party {
	t.Helper()
	p := &party{t: t, at: sitetest.Start(t, name), id: id}
	stop, err := api.Serve(context.Background(), p.at.Bus.Conn(), p.at.Log,
		api.On(api.SharedResolve("vms"), func(context.Context, events.DirectoryName) (api.Directory, error) {
			return p.directory(), nil
		}),
		api.On(api.SharedList("vms"), func(context.Context, api.PoolFilter) ([]api.Directory, error) {
			return []api.Directory{p.directory()}, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	p.restartOwner()
	p.restartFollower()
	return p
}

// directory is the site's map.
func (p *party) directory() api.Directory {
	d := api.Directory{ID: p.id, Pool: "vms", Path: "/prod", Role: events.Slave}
	if p.owns.Load() {
		d.Role = events.Master
	}
	return d
}

// restartOwner starts the journal service, which holds nothing.
func (p *party) restartOwner() {
	p.t.Helper()
	if p.stopOwner != nil {
		p.stopOwner()
	}
	p.owner = journal.New(journal.Deps{Bus: p.at.Bus, Node: p.at.Node, Log: p.at.Log, JournalBytesMax: 1 << 30})
	p.stopOwner = sitetest.Run(p.t, p.owner.Run)
	<-p.owner.Ready()
}

// restartFollower starts the replayer, which holds nothing.
func (p *party) restartFollower() {
	p.t.Helper()
	if p.stop != nil {
		p.stop()
	}
	p.follower = New(Deps{Bus: p.at.Bus, Node: p.at.Node, Log: p.at.Log, JournalBytesMax: 1 << 30})
	p.stop = sitetest.Run(p.t, p.follower.Run)
	<-p.follower.Ready()
}

// own makes the site primary.
func (p *party) own(why events.TagReason) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), sitetest.Patience)
	defer cancel()
	_, err := p.owner.Acquire(ctx, &events.AcquireRequested{
		Assignment: events.Assignment{Operation: "1", Directory: p.id, Role: events.Master, Epoch: 1},
		Pool:       "vms", Path: "/prod", Promote: why,
	})
	if err != nil {
		p.t.Fatalf("%s: own: %v", p.at.Node.Site.Name, err)
	}
	p.owns.Store(true)
}

// follow makes the site follow.
func (p *party) follow() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), sitetest.Patience)
	defer cancel()
	_, err := p.follower.Acquire(ctx, &events.AcquireRequested{
		Assignment: events.Assignment{Operation: "2", Directory: p.id, Role: events.Slave, Epoch: 2},
		Pool:       "vms", Path: "/prod",
	})
	if err != nil {
		p.t.Fatalf("%s: follow: %v", p.at.Node.Site.Name, err)
	}
}

// release has the site let go: an owner by a demotion, a follower with all that it received.
func (p *party) release() {
	p.t.Helper()
	r := &events.ReleaseRequested{
		Assignment: events.Assignment{Operation: "3", Directory: p.id, Role: events.Slave, Epoch: 3},
		Pool:       "vms", Path: "/prod", KeepAll: true,
	}
	release := p.follower.Release
	if p.owns.Swap(false) {
		r.Role, r.Demote, r.KeepAll = events.Master, true, false
		release = p.owner.Release
	}
	ctx, cancel := context.WithTimeout(context.Background(), sitetest.Patience)
	defer cancel()
	if _, quiesced, err := release(ctx, r); err != nil || !quiesced {
		p.t.Fatalf("%s: release: quiesced %v, %v", p.at.Node.Site.Name, quiesced, err)
	}
}

// ask sends a request about the directory.
func ask[Reply any](p *party, kind string, request any) (Reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), sitetest.Patience)
	defer cancel()
	return api.Call[Reply](ctx, p.at.Bus.Conn(), api.HolderSubject(p.id, kind), request)
}

// must sends a request that is not refused.
func must[Reply any](p *party, kind string, request any) Reply {
	p.t.Helper()
	reply, err := ask[Reply](p, kind, request)
	if err != nil {
		p.t.Fatalf("%s: %s: %v", p.at.Node.Site.Name, kind, err)
	}
	return reply
}

func (p *party) exports() nbd.Exports {
	if p.owns.Load() {
		return p.owner.Exports()
	}
	return p.follower.Exports()
}

func (p *party) open(export string) nbd.Device {
	p.t.Helper()
	dev, err := p.exports().Open(context.Background(), export)
	if err != nil {
		p.t.Fatalf("%s: open %s: %v", p.at.Node.Site.Name, export, err)
	}
	return dev
}

// write writes to an image and waits until it is acknowledged.
func (p *party) write(image string, data []byte, off uint64) {
	p.t.Helper()
	dev := p.open("vms/prod/" + image)
	defer func() { _ = dev.Close(context.Background()) }()
	done := make(chan error, 1)
	dev.Write(context.Background(), data, off, false, func(err error) { done <- err })
	if err := <-done; err != nil {
		p.t.Fatalf("%s: write %d bytes to %s: %v", p.at.Node.Site.Name, len(data), image, err)
	}
}

func (p *party) read(export string) []byte {
	p.t.Helper()
	dev := p.open(export)
	defer func() { _ = dev.Close(context.Background()) }()
	data := make([]byte, dev.Info().Size)
	if err := dev.ReadAt(context.Background(), data, 0); err != nil {
		p.t.Fatalf("%s: read %s: %v", p.at.Node.Site.Name, export, err)
	}
	return data
}

// digest returns the digest of an export's content, of which it holds a little at a time:
// images of benchmarks are larger than the memory that they may take.
func (p *party) digest(export string) (sum [sha256.Size]byte) {
	p.t.Helper()
	dev := p.open(export)
	defer func() { _ = dev.Close(context.Background()) }()
	hash, size := sha256.New(), dev.Info().Size
	room := make([]byte, min(size, 4<<20))
	for off := uint64(0); off < size; off += uint64(len(room)) {
		room = room[:min(uint64(len(room)), size-off)]
		if err := dev.ReadAt(context.Background(), room, off); err != nil {
			p.t.Fatalf("%s: read %s: %v", p.at.Node.Site.Name, export, err)
		}
		hash.Write(room)
	}
	return [sha256.Size]byte(hash.Sum(nil))
}

// holding is all that a site says of its copy.
type holding struct {
	Contents  map[string][sha256.Size]byte // of every image and snapshot
	Images    []api.Image
	Snapshots []api.Snapshot
	Metadata  map[string]map[string]string
}

func (p *party) holding() holding {
	p.t.Helper()
	h := holding{Contents: map[string][sha256.Size]byte{}, Metadata: map[string]map[string]string{}}
	names, err := p.exports().List(context.Background())
	if err != nil {
		p.t.Fatal(err)
	}
	for _, name := range names {
		h.Contents[name] = p.digest(name)
	}
	h.Images = must[[]api.Image](p, api.ImageList, api.Nothing{})
	h.Snapshots = must[[]api.Snapshot](p, api.SnapList, api.ImageRequest{})
	for i := range h.Images { // what is each copy's own
		image := &h.Images[i]
		h.Metadata[image.Image] = must[map[string]string](p, api.MetadataList, api.ImageRequest{Image: image.Image})
		image.Directory, image.ReadOnly, image.Objects, image.UsedBytes = "", false, 0, 0
	}
	for i := range h.Snapshots {
		h.Snapshots[i].UsedBytes = 0
	}
	return h
}

// sameAs waits until a follower is level with an owner that is not written, and compares all
// that they hold.
func (p *party) sameAs(owner *party) holding {
	p.t.Helper()
	var at, here api.Status
	sitetest.Eventually(p.t, p.at.Node.Site.Name+" is level with "+owner.at.Node.Site.Name, func() bool {
		at = must[api.Status](owner, api.DirectoryStatus, api.Nothing{})
		here = must[api.Status](p, api.DirectoryStatus, api.Nothing{})
		return at.Applied.Same(at.Position) && here.Applied.Same(at.Position) && here.State == string(Replaying)
	})
	want, got := owner.holding(), p.holding()
	if diff := cmp.Diff(want, got); diff != "" {
		p.t.Fatalf("%s differs from %s at %v (-want +got):\n%s", p.at.Node.Site.Name, owner.at.Node.Site.Name, at.Position.Position, diff)
	}
	return want
}

func TestPairFollowsWrites(t *testing.T) {
	t.Parallel()
	east, west := newPair(t)
	east.own("")
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: 8 << 20})
	east.write("disk0", []byte("before"), 5<<20)
	west.follow()
	east.write("disk0", make([]byte, 3<<20), 1)
	west.sameAs(east)
}
