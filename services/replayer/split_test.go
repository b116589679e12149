package replayer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

func (p *party) status() api.Status {
	p.t.Helper()
	return must[api.Status](p, api.DirectoryStatus, api.Nothing{})
}

// told counts the turns of one kind that listeners at a site were told of.
func (p *party) told(what events.Lifecycle) int {
	p.t.Helper()
	return len(p.notes(what))
}

// levelPair has a new image at east, which west holds too.
func levelPair(t *testing.T) (east, west *party) {
	t.Helper()
	east, west = newPair(t)
	east.own("")
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: 16 << 20})
	east.write("disk0", []byte("common"), 0)
	west.follow()
	west.sameAs(east)
	return east, west
}

// demandSplit demands that a split brain is described so.
func demandSplit(t *testing.T, s *api.Split, common events.Position, ours, theirs api.SplitSide) {
	t.Helper()
	if s == nil {
		t.Fatal("no split brain")
	}
	// West was synced there: its journal begins behind the common position.
	if s.Common != common || !s.CommonExact || (s.CommonTime != 0) != (ours.Site == "east") {
		t.Errorf("parted at %v (exact %v, %v), want %v", s.Common, s.CommonExact, s.CommonTime.Time(), common)
	}
	for _, side := range [][2]api.SplitSide{{s.Ours, ours}, {s.Theirs, theirs}} {
		got, want := side[0], side[1]
		if got.Site != want.Site || got.Primary != want.Primary || got.Entries != want.Entries || got.Objects != want.Objects ||
			(got.Bytes > 0) != (want.Entries > 0) || len(got.Tags) != len(want.Tags) {
			t.Errorf("side %+v, want %+v", got, want)
		}
	}
	for i, keep := range []string{theirs.Site, ours.Site} {
		if i >= len(s.Resolve) || !strings.Contains(s.Resolve[i], "tidemark mirror resync vms/prod") || !strings.Contains(s.Resolve[i], "keeps the history of "+keep) {
			t.Errorf("to keep %s: %q", keep, s.Resolve)
		}
	}
}

// journal 302, rivals 9: both sides wrote after a forced promotion. Both show it with the
// position where they parted and what each holds since, the demoted one follows nothing, and
// listeners are told once.
func TestBothSidesWritten(t *testing.T) {
	t.Parallel()
	east, west := levelPair(t)
	common, before := west.status().Applied.Position, west.status().Applied.Entries
	west.release()
	east.write("disk0", make([]byte, 8<<20), 0) // two objects
	west.own(events.TagForced)
	west.write("disk0", []byte("west"), 5<<20)
	entries := east.status().Position.Entries - before
	one := api.SplitSide{Site: "east", Primary: true, Entries: entries, Objects: 2}
	two := api.SplitSide{Site: "west", Primary: true, Entries: 1, Objects: 1, Tags: make([]api.SplitTag, 1)}
	for _, p := range []*party{east, west} {
		sitetest.Eventually(t, p.at.Node.Site.Name+" shows the split brain", func() bool {
			s := p.status().Split
			return s != nil && s.Theirs.Entries > 0 && s.Ours.Entries > 0
		})
	}
	demandSplit(t, east.status().Split, common, one, two)
	demandSplit(t, west.status().Split, common, two, one)
	east.write("disk0", []byte("served"), 0) // it goes on serving

	was := east.holding()
	east.release()
	east.follow()
	sitetest.Eventually(t, "east shows the split brain as a follower", func() bool { return east.status().Split != nil })
	s := east.status()
	one.Primary, one.Entries, one.Tags = false, entries+1, make([]api.SplitTag, 1) // the demotion
	demandSplit(t, s.Split, common, one, two)
	if s.State != string(SplitBrain) || !strings.Contains(s.Error, "parted at "+common.String()) {
		t.Errorf("%s: %s", s.State, s.Error)
	}
	if strings.Contains(s.Split.Resolve[0], "demote") || !strings.Contains(s.Split.Resolve[1], "mirror demote vms/prod &&") {
		t.Errorf("who is primary is demoted, and nobody else: %q", s.Split.Resolve)
	}
	if ahead := s.Ahead; ahead == nil || !ahead.Known || ahead.Entries != two.Entries {
		t.Errorf("what the promotion of east would give up: %+v", ahead)
	}
	if got := fmt.Sprint(east.holding().Contents); got != fmt.Sprint(was.Contents) {
		t.Error("something was applied")
	}
	sitetest.Eventually(t, "west sees that east is primary no more", func() bool {
		s := west.status().Split
		return s != nil && !s.Theirs.Primary
	})
	for _, p := range []*party{east, west} {
		if n := p.told(events.Diverged); n > 2 || n == 0 || p == west && n != 1 { // east: as a primary, and as a follower
			t.Errorf("%s told of it %d times", p.at.Node.Site.Name, n)
		}
	}
}

// A primary that was promoted over comes back, and nobody has written there that the other
// did not see: both are primary and show it, and after a demotion the old one follows. Its
// own claims are given up. journal 288, journal 303, rivals 2.
func TestPromotedOverWithoutLoss(t *testing.T) {
	t.Parallel()
	east, west := levelPair(t)
	west.release()
	east.restartOwner()
	west.own(events.TagForced)
	west.write("disk0", []byte("west"), 5<<20)
	east.own("")
	for _, p := range []*party{east, west} {
		sitetest.Eventually(t, p.at.Node.Site.Name+" shows two primaries", func() bool { return p.status().Split != nil })
	}
	if s := east.status().Split; s.Ours.Entries != 0 || s.Theirs.Entries != 1 || !s.Theirs.Primary {
		t.Errorf("%+v", s)
	}
	east.release()
	told := east.told(events.Diverged)
	east.follow()
	east.sameAs(west)
	if n := east.told(events.Diverged); n != told {
		t.Error("a follower that loses nothing told of a split brain")
	}
	sitetest.Eventually(t, "west shows nothing any more", func() bool { return west.status().Split == nil })
	west.write("disk0", []byte("goes on"), 6<<20)
	east.sameAs(west)
	east.restartFollower() // from the new journal
	east.follow()
	east.sameAs(west)
	// And back, in order.
	west.release()
	west.follow()
	sitetest.Eventually(t, "the demotion has arrived", func() bool { return east.status().Applied.Same(west.status().Applied) })
	east.release()
	east.own(events.TagPromoted)
	east.write("disk0", []byte("back"), 7<<20)
	west.sameAs(east)
}

// rivals 17: a fail-over is taken back. A snapshot of the directory from before it is what it
// returns to, and the old primary goes on without a resync.
func TestFailOverIsTakenBack(t *testing.T) {
	t.Parallel()
	east, west := levelPair(t)
	must[[]api.Snapshot](east, api.SnapCreate, api.SnapRequest{Snapshot: "before"})
	was := east.digest("vms/prod/disk0")
	move := func(from, to *party) {
		t.Helper()
		from.release()
		from.follow()
		sitetest.Eventually(t, "the demotion has arrived", func() bool { return to.status().Applied.Same(from.status().Applied) })
		to.release()
		to.own(events.TagPromoted)
	}
	move(east, west)
	west.write("disk0", []byte("a fail-over that turns out badly"), 5<<20)
	east.sameAs(west)
	if east.digest("vms/prod/disk0") == was {
		t.Fatal("what is to be taken back never came to east")
	}
	must[api.Nothing](west, api.SnapRollback, api.SnapRequest{Image: "disk0", Snapshot: "before"})
	move(west, east)
	if east.digest("vms/prod/disk0") != was {
		t.Error("east does not hold what it held before the fail-over")
	}
	east.write("disk0", []byte("goes on"), 6<<20)
	west.sameAs(east)
	if n := east.told(events.Diverged) + east.told(events.ResyncStarted) + west.told(events.ResyncStarted); n != 0 {
		t.Errorf("%d split brains or resyncs", n)
	}
}

// A crash between the steps of giving claims up: the copy is rewound, and its journal still
// holds the claims.
func TestRewindingIsInterrupted(t *testing.T) {
	t.Parallel()
	east, west := levelPair(t)
	common := west.status().Applied
	west.release()
	west.own(events.TagForced)
	west.write("disk0", []byte("west"), 5<<20)
	east.release()
	r, err := replica.Open(vfs.OS(), east.at.Node.ReplicaDir(eastID))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Rewind(common), r.Close()); err != nil {
		t.Fatal(err)
	}
	east.follow()
	east.sameAs(west)
	east.release()
	east.follow() // what was replaced once is not replaced again
	west.write("disk0", []byte("more"), 6<<20)
	east.sameAs(west)
}

// journal 287, journal 288, journal 289, journal 290, rivals 2: twenty rounds of fail-over and
// fail-back, with writes and without, and never a split brain; nothing is left behind
// (journal 303).
func TestTwentyRounds(t *testing.T) {
	t.Parallel()
	east, west := levelPair(t)
	primary, replica := east, west
	for round := range sitetest.Rounds(20) {
		if round%2 == 0 {
			primary.write("disk0", fmt.Appendf(nil, "round %d", round), uint64(round)<<12)
		}
		primary.release()
		primary.follow()
		sitetest.Eventually(t, "the demotion has arrived", func() bool {
			return replica.status().Applied.Same(primary.status().Applied)
		})
		replica.release()
		replica.own(events.TagPromoted)
		primary, replica = replica, primary
		replica.sameAs(primary)
	}
	for _, p := range []*party{east, west} {
		if s := p.status(); s.Split != nil || p.told(events.Diverged) != 0 {
			t.Errorf("%s: a split brain: %+v", p.at.Node.Site.Name, s.Split)
		}
		for _, c := range p.status().Clients {
			if c.State != events.ClientConnected || c.ID != "east.node" && c.ID != "west.node" {
				t.Errorf("%s: a client is left behind: %+v", p.at.Node.Site.Name, c)
			}
		}
	}
}

// journal 287: the same site is demoted and promoted again: its follower goes on.
func TestDemotedAndPromotedOnTheSameSide(t *testing.T) {
	t.Parallel()
	east, west := levelPair(t)
	for range 3 {
		east.release()
		east.own(events.TagPromoted)
		east.write("disk0", []byte("again"), 1<<20)
		west.sameAs(east)
	}
	if n := west.told(events.Diverged); n != 0 {
		t.Errorf("told of %d split brains", n)
	}
}

// journal 287: sessions end when the role changes, and a client that connects again gets the
// new role; journal 251: the primary's site follows nobody.
func TestSessionsEndWithTheRole(t *testing.T) {
	t.Parallel()
	east, west := levelPair(t)
	ended := func(name string, gone <-chan struct{}) {
		t.Helper()
		select {
		case <-gone:
		case <-time.After(sitetest.Patience):
			t.Fatalf("the session at %s goes on", name)
		}
	}
	writable := func(p *party, want bool) {
		t.Helper()
		dev := p.open("vms/prod/disk0")
		defer func() { _ = dev.Close(context.Background()) }()
		done := make(chan error, 1)
		dev.Write(context.Background(), []byte("role"), 9<<20, false, func(err error) { done <- err })
		err := <-done
		if dev.Info().ReadOnly == want || (err == nil) != want || !want && fault.CodeOf(err) != fault.ReadOnly {
			t.Errorf("%s: read-only %v, write: %v", p.at.Node.Site.Name, dev.Info().ReadOnly, err)
		}
	}
	primary, replica := east, west
	for range 2 {
		writing, reading := primary.open("vms/prod/disk0"), replica.open("vms/prod/disk0")
		primary.release()
		ended(primary.at.Node.Site.Name, writing.Ended())
		done := make(chan error, 1)
		writing.Write(context.Background(), []byte("late"), 0, true, func(err error) { done <- err })
		if err := <-done; err == nil {
			t.Error("a demoted primary acknowledged a write")
		}
		_ = writing.Close(context.Background())
		primary.follow()
		sitetest.Eventually(t, "the demotion has arrived", func() bool {
			return replica.status().Applied.Same(primary.status().Applied)
		})
		writable(primary, false)
		replica.release()
		ended(replica.at.Node.Site.Name, reading.Ended())
		_ = reading.Close(context.Background())
		replica.own(events.TagPromoted)
		writable(replica, true)
		primary, replica = replica, primary
		replica.sameAs(primary)
	}
}

// What only an operator can help with is told once, however often it is tried, and again
// only after it was resolved.
func TestAlarmIsToldOnce(t *testing.T) {
	t.Parallel()
	p, _ := newPair(t)
	f := newFollower(p.follower, &events.AcquireRequested{
		Assignment: events.Assignment{Directory: eastID, Role: events.Slave}, Pool: "vms", Path: "/prod",
	})
	parted := &splitError{&api.Split{Peer: "east", Ours: api.SplitSide{Site: "west"}, Theirs: api.SplitSide{Site: "east"}}}
	try := func(times int, err error) {
		for range times {
			f.classify(t.Context(), err, time.Second)
			f.enter(Stopped, err)
		}
	}
	try(3, parted)
	try(1, fault.New(fault.Timeout, "the link is cut"))
	try(2, parted)
	if n := p.told(events.Diverged); n != 1 {
		t.Errorf("told %d times", n)
	}
	f.resolved(t.Context(), "east")
	try(2, parted)
	try(2, errOtherLife)
	if n, m := p.told(events.Diverged), p.told(events.Disconnected); n != 2 || m != 1 {
		t.Errorf("told %d times of a split brain, %d times of another life", n, m)
	}
}
