package replayer

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/nbd"
	"tidemark/internal/sitetest"
)

const (
	eastID events.DirectoryID = "00112233aabbccdd"
	westID events.DirectoryID = "ddccbbaa33221100"
)

// origin is a directory at the other site, as much of an owner as a follower can see.
// Services never meet but in events, so its journal service is run by the tests in e2e;
// here a script of entries plays its part.
type origin struct {
	t    testing.TB
	site *sitetest.Site
	*script
	stopServing func()
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	at := sitetest.Start(t, "east")
	o := &origin{t: t, site: at, script: newScript(t, at)}
	o.serve()
	return o
}

// serve answers for the origin as it is now.
func (o *origin) serve() {
	o.t.Helper()
	if o.stopServing != nil {
		o.stopServing()
	}
	stop, err := api.Serve(context.Background(), o.site.Bus.Conn(), o.site.Log, append(o.handlers(),
		api.On(api.SharedResolve("vms"), func(context.Context, events.DirectoryName) (api.Directory, error) {
			return api.Directory{ID: eastID, Pool: "vms", Path: "/prod", Role: events.Master}, nil
		}))...)
	if err != nil {
		o.t.Fatal(err)
	}
	o.stopServing = sync.OnceFunc(stop)
	o.t.Cleanup(o.stopServing)
}

// west starts a replayer that has east as its peer.
func west(t testing.TB, dir string, o *origin) (*Service, *sitetest.Site, func()) {
	t.Helper()
	at := sitetest.StartIn(t, "west", dir)
	addPeer(t, at, o.site.Node.Site, o.site.Server.URL())
	s, stop := follow(t, at)
	return s, at, stop
}

// levelWest starts an origin with one image, disk0, of a size in bytes and so many random
// changes, and a replayer at west that has all of it.
func levelWest(t testing.TB, size, changes int) (o *origin, s *Service, at *sitetest.Site, stop func()) {
	t.Helper()
	o = newOrigin(t)
	o.create("disk0", size)
	o.random(changes)
	o.settle()
	s, at, stop = west(t, t.TempDir(), o)
	sitetest.Eventually(t, "west is level", s.level(o.mark()))
	return o, s, at, stop
}

func follow(t testing.TB, at *sitetest.Site) (*Service, func()) { return followAsked(t, at, 0) }

// followAsked is follow by a site that was asked for a resync of a number.
func followAsked(t testing.TB, at *sitetest.Site, resync uint64) (*Service, func()) {
	t.Helper()
	s := New(Deps{Bus: at.Bus, Node: at.Node, Log: at.Log, JournalBytesMax: 1 << 30})
	stop := sitetest.Run(t, s.Run)
	<-s.Ready()
	_, err := s.Acquire(t.Context(), &events.AcquireRequested{
		Assignment: events.Assignment{Operation: "1", Directory: westID, Role: events.Slave, Epoch: 1},
		Pool:       "vms", Path: "/prod", Resync: resync,
	})
	if err != nil {
		t.Fatalf("acquire: %v", err)
	}
	return s, stop
}

func (s *Service) level(mark events.Mark) func() bool {
	return func() bool {
		own := s.followers[westID].copy()
		return own != nil && own.tail.Marks().Applied.Same(mark) && own.complete()
	}
}

func (s *Service) received(mark events.Mark) func() bool {
	return func() bool {
		own := s.followers[westID].copy()
		return own != nil && own.inbox.last().Same(mark)
	}
}

func content(t testing.TB, s *Service, image string, size int) []byte {
	t.Helper()
	dev, err := s.Exports().Open(t.Context(), "vms/prod/"+image)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer func() { _ = dev.Close(t.Context()) }()
	if !dev.Info().ReadOnly {
		t.Error("the export of a follower can be written")
	}
	p := make([]byte, size)
	if err := dev.ReadAt(t.Context(), p, 0); err != nil {
		t.Fatalf("read: %v", err)
	}
	return p
}

func TestFollowerIsSyncedAndThenFollows(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.create("disk0", 16<<20)
	o.random(200)
	o.settle()
	o.random(100) // logged, and not applied when the sync begins
	s, _, _ := west(t, t.TempDir(), o)
	o.settle()
	sitetest.Eventually(t, "west holds what the journal held", s.level(o.mark()))
	if !bytes.Equal(content(t, s, "disk0", 16<<20), o.want("disk0")) {
		t.Fatal("west differs from east after the first sync")
	}
	o.random(300)
	o.create("disk1", 4<<20)
	o.random(100)
	o.settle()
	sitetest.Eventually(t, "west follows", s.level(o.mark()))
	for _, image := range []string{"disk0", "disk1"} {
		if !bytes.Equal(content(t, s, image, len(o.want(image))), o.want(image)) {
			t.Fatalf("%s at west differs from east", image)
		}
	}
}

func TestNothingIsKeptBeforeItsOriginReportsItSafe(t *testing.T) {
	t.Parallel()
	o, s, _, _ := levelWest(t, 4<<20, 0)
	kept := o.mark()
	o.random(50) // logged; no head says that it is safe
	sitetest.Eventually(t, "west has received it", s.received(o.mark()))
	if got := s.followers[westID].marks().Logged; !got.Same(kept) {
		t.Fatalf("west kept up to %v, which its origin may still lose", got.Position)
	}
	o.settle()
	sitetest.Eventually(t, "west applies what is safe", s.level(o.mark()))
}

// A power failure at the origin takes what was not synced there. A follower that had
// received it goes on with what the origin writes instead: no split brain.
func TestOriginLosesItsUnsafeTail(t *testing.T) {
	t.Parallel()
	o, s, _, _ := levelWest(t, 4<<20, 50)
	safe := o.save()
	o.random(50)
	sitetest.Eventually(t, "west has received what will be lost", s.received(o.mark()))
	o.restore(safe)
	o.random(60)
	o.settle()
	sitetest.Eventually(t, "west follows the origin's new history", s.level(o.mark()))
	if !bytes.Equal(content(t, s, "disk0", 4<<20), o.want("disk0")) {
		t.Fatal("west differs from east after east lost its tail")
	}
}

// A copy that is promoted without its origin goes on to everything that it received.
func TestReleaseForPromotionKeepsWhatWasReceived(t *testing.T) {
	t.Parallel()
	for _, keepAll := range []bool{false, true} {
		o := newOrigin(t)
		o.create("disk0", 4<<20)
		o.settle()
		s, at, _ := west(t, t.TempDir(), o)
		sitetest.Eventually(t, "west is level", s.level(o.mark()))
		want := o.mark()
		o.random(50)
		sitetest.Eventually(t, "west has received it", s.received(o.mark()))
		if keepAll {
			want = o.mark()
		}
		mark, quiesced, err := s.Release(t.Context(), &events.ReleaseRequested{
			Assignment: events.Assignment{Directory: westID, Role: events.Slave}, Pool: "vms", Path: "/prod", KeepAll: keepAll,
		})
		if err != nil || !quiesced {
			t.Fatalf("release: quiesced %v, %v", quiesced, err)
		}
		stream := events.JournalStream(events.DirectoryName{Pool: "vms", Path: "/prod"}, westID)
		state, err := at.Bus.State(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		end := mark
		err = at.Bus.ReadTo(t.Context(), stream, state.First, state.Last, func(m bus.Message) error {
			message, err := events.DecodeJournal(m.Data)
			end = message.Ends()
			return err
		})
		if err != nil || state.Last >= state.First && !end.Same(want) {
			t.Errorf("keep all %v: west's journal ends at %v, want %v (%v)", keepAll, end.Position, want.Position, err)
		}
		if keepAll && state.Last < state.First {
			t.Error("nothing was kept")
		}
	}
}

func TestFollowerGoesOnAfterRestart(t *testing.T) {
	t.Parallel()
	o, _, at, stop := levelWest(t, 16<<20, 300)
	stop()
	o.random(200)
	o.settle()
	s, _ := follow(t, at)
	sitetest.Eventually(t, "west is level again", s.level(o.mark()))
	if !bytes.Equal(content(t, s, "disk0", 16<<20), o.want("disk0")) {
		t.Fatal("west differs from east after a restart")
	}
}

func TestDivergedHistoryIsNeverApplied(t *testing.T) {
	t.Parallel()
	o, s, at, stop := levelWest(t, 4<<20, 20)
	before := content(t, s, "disk0", 4<<20)
	stop()

	// East loses its disk and begins another history under the same name.
	o.restartHistory()
	o.create("disk0", 4<<20)
	o.random(500)
	o.settle()
	s, _ = follow(t, at)
	sitetest.Eventually(t, "the divergence is noticed", func() bool {
		f := s.followers[westID]
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.state == SplitBrain
	})
	if !bytes.Equal(content(t, s, "disk0", 4<<20), before) {
		t.Fatal("another history was applied")
	}
}

// journal 253: a message that does not decode is not stored; the directory stops, visibly, and
// the rest of the copy is as it was.
func TestDamagedMessageStopsTheFollower(t *testing.T) {
	t.Parallel()
	o, s, _, _ := levelWest(t, 4<<20, 20)
	kept := o.mark()
	damaged := bytes.Clone(o.stored[len(o.stored)-1].data)
	damaged[len(damaged)/2] ^= 1
	if _, err := o.log.Append(t.Context(), events.EntriesSubject("east", eastID), damaged, o.seq); err != nil {
		t.Fatal(err)
	}
	sitetest.Eventually(t, "west says what is wrong", s.is(t, Errored, "checksum is wrong"))
	if got := s.followers[westID].marks().Logged; !got.Same(kept) {
		t.Errorf("west went on to %v", got.Position)
	}
	if !bytes.Equal(content(t, s, "disk0", 4<<20), o.want("disk0")) {
		t.Error("the copy changed")
	}
}

func TestExportsOfAFollowerRefuseWrites(t *testing.T) {
	t.Parallel()
	_, s, _, _ := levelWest(t, 4<<20, 0)
	dev, err := s.Exports().Open(t.Context(), "vms/prod/disk0")
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, do func(done func(error))) {
		result := make(chan error, 1)
		do(func(err error) { result <- err })
		if err := <-result; fault.CodeOf(err) != fault.ReadOnly {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("write", func(done func(error)) { dev.Write(t.Context(), make([]byte, 512), 0, false, done) })
	refused("zero", func(done func(error)) { dev.Zero(t.Context(), nbd.ZeroRequest{Length: 512}, done) })
}

// A source that does not want this site as a follower any more is not followed, and
// nothing that is already here is lost by that.
func TestFollowerStopsWhenItsSourceSaysSo(t *testing.T) {
	t.Parallel()
	o, s, _, _ := levelWest(t, 4<<20, 0)
	before := o.mark()
	o.forbid(fault.New(fault.Denied, "no peer any more"))
	sitetest.Eventually(t, "west stops and says why", func() bool {
		status, err := s.followers[westID].status(t.Context())
		return err == nil && status.State != string(Replaying) && strings.Contains(status.Error, "no peer any more")
	})
	o.random(20)
	o.settle()
	if got := s.followers[westID].marks().Logged; !got.Same(before) {
		t.Errorf("west went on to %v", got.Position)
	}
	o.forbid(nil)
	sitetest.Eventually(t, "west follows again", s.level(o.mark()))
}

// A first sync goes on only where the history is its own.
func TestFirstSyncGoesOnOnlyInItsHistory(t *testing.T) {
	tag := func(generation events.Tag, site string, chain events.Chain) events.TagClaimed {
		number := generation << 12
		return events.TagClaimed{Tag: number, Site: site, Mark: events.Mark{Position: events.At(number, 0), Chain: chain}}
	}
	began := tag(2, "east", 7)
	for _, c := range []struct {
		name string
		tags []events.TagClaimed
		want bool
	}{
		{"the same tag", []events.TagClaimed{tag(1, "east", 5), tag(2, "east", 7)}, true},
		{"its owner opened it again", []events.TagClaimed{tag(2, "east", 7), tag(3, "east", 9)}, true},
		{"another site was promoted", []events.TagClaimed{tag(2, "east", 7), tag(3, "west", 9)}, false},
		{"another site, and back", []events.TagClaimed{tag(2, "east", 7), tag(3, "west", 9), tag(4, "east", 11)}, false},
		{"another history", []events.TagClaimed{tag(2, "east", 8)}, false},
		{"an older copy", []events.TagClaimed{tag(1, "east", 5)}, false},
	} {
		if got := continues(&began, c.tags); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if continues(nil, []events.TagClaimed{began}) {
		t.Error("a copy without a tag goes on")
	}
}

func TestTransitions(t *testing.T) {
	if _, err := next(SplitBrain, Replaying); err == nil {
		t.Error("a split brain ends without being looked at again")
	}
	if to, err := next(Syncing, Replaying); err != nil || to != Replaying {
		t.Errorf("syncing to replaying: %v", err)
	}
}

// random writes, discards and zeroes ranges of all images.
func (s *script) random(n int) {
	s.t.Helper()
	for range n {
		image := s.images[s.rand.IntN(len(s.images))]
		length := uint64(1 + s.rand.IntN(64<<10))
		offset := s.rand.Uint64N(uint64(len(image.content)) - length)
		switch s.rand.IntN(10) {
		case 0:
			s.entry(image, events.Discarded{Image: image.id, Offset: offset, Length: length}, offset, make([]byte, length))
		case 1:
			s.entry(image, events.Zeroed{Image: image.id, Offset: offset, Length: length}, offset, make([]byte, length))
		default:
			data := make([]byte, length)
			for i := range data {
				data[i] = byte(s.rand.Uint32())
			}
			s.entry(image, events.Written{Image: image.id, Offset: offset, Data: data}, offset, data)
		}
	}
	s.publish()
}

func seeded() *rand.Rand { return seededWith(7) }

func seededWith(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 11)) }
