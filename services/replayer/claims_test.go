package replayer

import (
	"testing"

	"tidemark/events"
	"tidemark/internal/sitetest"
)

// undisturbed demands that listeners at a site were never told of a split brain.
func (p *party) undisturbed() {
	p.t.Helper()
	if s := p.status(); s.Split != nil || p.told(events.Diverged) != 0 {
		p.t.Errorf("%s shows a split brain: %+v", p.at.Node.Site.Name, s.Split)
	}
}

// holdsClaim waits until a follower has applied all that its owner has.
func (p *party) holdsClaim(owner *party) {
	p.t.Helper()
	sitetest.Eventually(p.t, p.at.Node.Site.Name+" holds the claim", func() bool {
		return p.status().Applied.Same(owner.status().Applied)
	})
}

// A promotion by force that is taken back before anything was written: the sites behind the
// one that was promoted hold its claims, which nobody needs. They give them up as it does,
// whether the primary has written meanwhile, has only been opened again, or has done nothing.
// journal 288, journal 303, rivals 2.
func TestClaimsAreGivenUpAlongAChain(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(*chain){
		"written": func(c *chain) { c.east.write("disk0", []byte("east"), 1<<20) },
		"opened":  func(c *chain) { c.east.release(); c.east.own(events.TagForced) },
		"idle":    func(*chain) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newChain(t)
			c.west.release()
			c.west.own(events.TagForced)
			c.north.holdsClaim(c.west)
			meanwhile(c)
			c.west.release()
			c.west.follow()
			c.west.sameAs(c.east)
			c.north.sameAs(c.east)
			c.east.write("disk0", []byte("goes on"), 2<<20)
			c.north.sameAs(c.east)
			c.north.undisturbed()
		})
	}
}

// The same of two followers of one site, of which one was promoted. The other one meets the
// primary that was there all the while.
func TestClaimsAreGivenUpByAnotherFollower(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	c.west.release()
	c.west.own(events.TagForced)
	c.north.holdsClaim(c.west)
	c.west.stopOwner() // it is gone for good
	c.west.owns.Store(false)
	befriend(t, c.east, c.north, c.east.at.Server.URL(), c.north.at.Server.URL())
	c.north.sameAs(c.east)
	c.east.write("disk0", []byte("goes on"), 2<<20)
	c.north.sameAs(c.east)
	c.north.undisturbed()
}

// While there is no primary, of copies that have parted by claims alone those follow that hold
// less, and all of them end with one history.
func TestClaimsAreGivenUpWithoutAPrimary(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	c.north.release()
	c.toEast.Cut()
	c.west.release()
	c.west.own(events.TagForced)
	c.west.release()
	befriend(t, c.east, c.north, c.east.at.Server.URL(), c.north.at.Server.URL())
	c.north.follow()
	c.east.write("disk0", []byte("west lacks this"), 1<<20)
	c.north.sameAs(c.east)
	c.east.release()
	c.toEast.Heal()
	c.west.follow()
	c.east.follow()
	for _, p := range []*party{c.west, c.north} {
		sitetest.Eventually(t, p.at.Node.Site.Name+" holds what east holds", func() bool {
			return p.status().Applied.Same(c.east.status().Applied)
		})
	}
	c.west.release()
	c.west.own(events.TagPromoted)
	c.east.sameAs(c.west)
	c.north.sameAs(c.west)
	for _, p := range []*party{c.east, c.west, c.north} {
		p.undisturbed()
	}
}

// Who holds entries that a primary lacks has parted from it, even if the primary itself has
// only claimed tags: what they hold would be lost.
func TestEntriesAreNeverGivenUpForClaims(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	c.north.release()
	c.east.write("disk0", []byte("north will lack this"), 1<<20)
	c.west.sameAs(c.east)
	c.north.own(events.TagForced)
	c.toEast.Cut() // west knows north alone
	sitetest.Eventually(t, "west shows the split brain", func() bool {
		s := c.west.status()
		return s.State == string(SplitBrain) && s.Split != nil && s.Split.Ours.Entries == 1 && s.Split.Theirs.Entries == 0
	})
}
