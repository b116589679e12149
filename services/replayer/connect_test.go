package replayer

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/site"
	"tidemark/internal/sitetest"
)

// journal 222, journal 223, journal 224: the owner is demoted while a first sync copies from
// it. The sync goes on from the demoted copy, brings the demotion, and the new copy can be
// promoted in order.
func TestDemotedDuringFirstSync(t *testing.T) {
	t.Parallel()
	east, west := newPair(t)
	east.own("")
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: 64 << 20})
	for off := range uint64(16) {
		east.write("disk0", make([]byte, 1<<20), off*4<<20)
	}
	west.follow()
	east.release()
	east.follow()
	sitetest.Eventually(t, "west holds the demotion", func() bool {
		at, here := east.status(), west.status()
		return here.State == string(Replaying) && here.Applied.Same(at.Applied) && at.Applied.Position.Entry() == 0
	})
	want := east.read("vms/prod/disk0")
	west.release()
	west.own(events.TagPromoted)
	if string(west.read("vms/prod/disk0")) != string(want) {
		t.Error("west differs from east")
	}
	east.sameAs(west)
}

// journal 225: a copy whose own journal is gone says so, and does not go on without it.
func TestOwnJournalMissing(t *testing.T) {
	t.Parallel()
	east, west := levelPair(t)
	east.write("disk0", []byte("more"), 1<<20)
	west.sameAs(east)
	west.release()
	stream := events.JournalStream(events.DirectoryName{Pool: "vms", Path: "/prod"}, westID)
	if err := west.at.Bus.RemoveLog(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), sitetest.Patience)
	defer cancel()
	_, err := west.follower.Acquire(ctx, &events.AcquireRequested{
		Assignment: events.Assignment{Operation: "2", Directory: westID, Role: events.Slave}, Pool: "vms", Path: "/prod",
	})
	if err == nil || !strings.Contains(err.Error(), "journal") || west.told(events.LostTail) == 0 {
		t.Errorf("%v, told %d times", err, west.told(events.LostTail))
	}
}

// journal 231: the copy is gone, and the source still knows the client: it is copied anew.
func TestCopyIsGone(t *testing.T) {
	t.Parallel()
	for _, journalToo := range []bool{true, false} {
		east, west := levelPair(t)
		east.write("disk0", []byte("more"), 1<<20)
		west.sameAs(east)
		west.release()
		if err := os.RemoveAll(west.at.Node.ReplicaDir(westID)); err != nil {
			t.Fatal(err)
		}
		stream := events.JournalStream(events.DirectoryName{Pool: "vms", Path: "/prod"}, westID)
		if journalToo {
			if err := west.at.Bus.RemoveLog(t.Context(), stream); err != nil {
				t.Fatal(err)
			}
		}
		west.follow()
		west.sameAs(east)
		east.write("disk0", []byte("and more"), 2<<20)
		west.sameAs(east)
	}
}

// journal 229, journal 238: a source that does not answer as it should, refuses, or is not
// mirrored any more: the reason is shown, it is asked again, and all goes on when it answers.
func TestSourceRefuses(t *testing.T) {
	t.Parallel()
	o, _, at, stop := levelWest(t, 4<<20, 0)
	for _, refusal := range []error{
		fault.New(fault.NotReady, "mirroring of pool vms is disabled there"), fault.New(fault.Internal, "the tags cannot be read"),
	} {
		stop()
		o.forbid(refusal)
		s, again := follow(t, at)
		stop = again
		sitetest.Eventually(t, "the reason is shown", s.is(t, Errored, refusal.Error()))
		o.forbid(nil)
		o.random(5)
		o.settle()
		sitetest.Eventually(t, "west follows again", s.level(o.mark()))
	}
}

// A source whose holder is asked while it hands the directory over, and refuses for that, is
// followed on; one that goes on refusing is not.
func TestSourceRefusesOnce(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.create("disk0", 4<<20)
	o.settle()
	s, _, _ := west(t, t.TempDir(), o)
	sitetest.Eventually(t, "west is level", s.level(o.mark()))
	f := s.followers[westID]
	source := f.lastSource()
	refusal := error(fault.New(fault.NotReady, "stopping"))
	o.admitOnce.Store(&refusal)
	sitetest.Eventually(t, "it is refused", func() bool { return o.admitOnce.Load() == nil })
	asked := o.admitted.Load()
	sitetest.Eventually(t, "it is asked again", func() bool { return o.admitted.Load() > asked })
	if !f.isIn(Replaying) || f.lastSource() != source {
		t.Errorf("it does not go on after one refusal: %v", f.failure())
	}
	o.forbid(refusal)
	sitetest.Eventually(t, "the reason is shown", s.is(t, Errored, refusal.Error()))
}

// journal 232, journal 236, journal 240: the source's directory was removed, and another was
// created under its name. What is here is of the former: nothing is applied, it is no split
// brain, and a copy made anew follows.
func TestOtherLifeIsNoSplitBrain(t *testing.T) {
	t.Parallel()
	o, s, at, stop := levelWest(t, 4<<20, 20)
	before := content(t, s, "disk0", 4<<20)
	stop()
	o.history = "another"
	o.restartHistory()
	o.serve()
	o.create("disk0", 4<<20)
	o.random(50)
	o.settle()
	s, stop = follow(t, at)
	sitetest.Eventually(t, "west does not follow", s.is(t, Disconnected, "another directory of this name"))
	sitetest.Eventually(t, "west shows what it has", func() bool { _, err := s.followers[westID].served(); return err == nil })
	if string(content(t, s, "disk0", 4<<20)) != string(before) {
		t.Error("something of the other directory was applied")
	}
	s.release(t, true)
	stop()
	s, _ = follow(t, at)
	sitetest.Eventually(t, "west holds the new directory", s.level(o.mark()))
}

// journal 237, journal 241: the source's journal is gone: nothing is followed, and that is shown.
func TestSourceJournalMissing(t *testing.T) {
	t.Parallel()
	o, _, at, stop := levelWest(t, 4<<20, 0)
	stop()
	if err := o.site.Bus.RemoveLog(t.Context(), o.stream().Name); err != nil {
		t.Fatal(err)
	}
	s, _ := follow(t, at)
	sitetest.Eventually(t, "west says what is missing", s.is(t, Errored, o.stream().Name))
	if got := s.followers[westID].marks().Logged; !got.Same(o.mark()) {
		t.Errorf("west stands at %v", got.Position)
	}
}

// journal 239: a release while the source is being asked, which never answers, ends at once.
func TestStoppedWhileConnecting(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // a black hole: nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	p := newParty(t, "west", westID)
	addPeer(t, p.at, site.Site{UUID: "00000000-0000-4000-8000-000000000001", Name: "east"}, "nats://"+listener.Addr().String())
	p.follow()
	started := time.Now()
	p.release()
	sitetest.Prompt(t, "a release", started, 2*askTime)
}

// journal 240, rivals 3: the source's journal was reset: the history that the copy lacks is
// gone. That is no split brain; a copy made anew follows.
func TestResetIsNoSplitBrain(t *testing.T) {
	t.Parallel()
	east, west := levelPair(t)
	west.release()
	east.write("disk0", []byte("lost to the journal"), 1<<20)
	must[api.Nothing](east, api.JournalReset, api.Nothing{})
	east.write("disk0", []byte("after"), 2<<20)
	west.follow()
	sitetest.Eventually(t, "west is disconnected", func() bool { return west.status().State == string(Disconnected) })
	for _, p := range []*party{east, west} {
		if p.status().Split != nil || p.told(events.Diverged) != 0 {
			t.Errorf("%s shows a split brain", p.at.Node.Site.Name)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), sitetest.Patience)
	defer cancel()
	if _, _, err := west.follower.Release(ctx, &events.ReleaseRequested{
		Assignment: events.Assignment{Directory: westID, Role: events.Slave}, Pool: "vms", Path: "/prod", Remove: true,
	}); err != nil {
		t.Fatal(err)
	}
	west.follow()
	west.sameAs(east)
}

// Of two primaries a third site goes on with the one whose history its copy is of, whichever
// answers first.
func TestThirdSiteInASplitBrain(t *testing.T) {
	t.Parallel()
	east, west := levelPair(t)
	north := newParty(t, "north", "aabbccddeeff0011")
	for _, p := range []*party{east, west} {
		befriend(t, p, north, p.at.Server.URL(), north.at.Server.URL())
	}
	north.follow()
	north.sameAs(east)
	west.release()
	east.write("disk0", []byte("east"), 1<<20)
	north.sameAs(east)
	west.own(events.TagForced)
	west.write("disk0", []byte("west"), 1<<20)
	for round := range 6 {
		north.restartFollower()
		north.follow()
		east.write("disk0", []byte{byte(round)}, 2<<20)
		north.sameAs(east)
	}
	if s := north.status(); s.Split != nil || north.told(events.Diverged) != 0 {
		t.Error("north has nothing to do with it")
	}
}
