package replayer

import (
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/sitetest"
)

// A site that holds less is looked at while the primary is out of reach, and is not followed: it is
// not made to keep its journal for who goes on elsewhere a moment later.
func TestSiteThatIsBehindIsNotMadeToWait(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	fromWest := sitetest.NewLink(t, c.north.at.Server.URL())
	addPeer(t, c.west.at, c.north.at.Node.Site, fromWest.URL)
	fromWest.Cut() // north hears west, and west does not hear north
	toEast := sitetest.NewLink(t, c.east.at.Server.URL())
	befriend(t, c.east, c.north, toEast.URL, c.north.at.Server.URL())
	sitetest.Eventually(t, "north follows the primary itself", func() bool { return c.north.lastSource().peer.Site == "east" })
	free := func() bool { return c.west.waitsFor() > c.west.follower.followers[westID].marks().Logged.Position }
	sitetest.Eventually(t, "west does not wait for north any more", free)
	c.toEast.Cut()
	c.east.write("disk0", noise(8<<10), 1<<20)
	c.north.sameAs(c.east)
	toEast.Cut()
	sitetest.Eventually(t, "north has looked at west", c.north.shows(Stopped, errLookAgain.Error()))
	toEast.Heal()
	c.east.write("disk0", noise(8<<10), 2<<20)
	c.north.sameAs(c.east)
	if !free() {
		t.Errorf("west's journal waits for %v, of a site that does not follow it", c.west.waitsFor())
	}
}

// Claims that a site holds back are in its journal, and come: who follows it has not parted from
// it, and gives up nothing.
func TestClaimsThatAreHeldBackAreNotGivenUp(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	south := newParty(t, "south", "aabbccddeeff0011")
	befriend(t, c.east, south, c.east.at.Server.URL(), south.at.Server.URL())
	befriend(t, c.west, south, c.west.at.Server.URL(), south.at.Server.URL())
	south.follow()
	south.sameAs(c.east)
	before := c.west.status().Applied
	c.west.configure(time.Hour)
	own := c.west.follower.followers[westID].copy()
	sitetest.Eventually(t, "west holds back", func() bool { _, noted := own.replica.NotedDue(); return noted })
	c.toEast.Cut()
	c.east.stopOwner() // it is gone for good
	c.east.owns.Store(false)
	south.release()
	south.own(events.TagForced)
	c.north.holdsClaim(south)
	sitetest.Eventually(t, "west hears south", func() bool { s := c.west.status(); return s.Primary == "south" && s.Lag.Unheard == 0 })
	if applied := c.west.status().Applied; !applied.Same(before) {
		t.Fatalf("west has applied %v", applied.Position)
	}
	f := c.north.follower.followers[northID]
	made, _ := f.copy().journal.Opened()
	source := f.lastSource()
	source.close()
	sitetest.Eventually(t, "north follows again", func() bool { return f.copy() != nil && f.lastSource() != source })
	if now, _ := f.copy().journal.Opened(); !now.Equal(made) {
		t.Error("north has given up what west has")
	}
}
