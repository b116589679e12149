package replayer

import (
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/site"
	"tidemark/internal/sitetest"
)

const northID events.DirectoryID = "0123456789abcdef"

// befriend makes sites peers of each other, each at a URL.
func befriend(t testing.TB, a, b *party, urlOfA, urlOfB string) {
	t.Helper()
	addPeer(t, a.at, b.at.Node.Site, urlOfB)
	addPeer(t, b.at, a.at.Node.Site, urlOfA)
}

// addPeer gives a site a peer, in a pool that is mirrored.
func addPeer(t testing.TB, at *sitetest.Site, peer site.Site, url string) {
	t.Helper()
	for _, fact := range []events.Fact{&events.MirrorEnabled{Pool: "vms"}, &events.PeerAdded{
		Pool: "vms", Peer: peer.UUID, Site: peer.Name, URL: url, Direction: events.ReceiveAndSend,
	}} {
		if _, err := at.Bus.Publish(t.Context(), events.StreamPools, fact); err != nil {
			t.Fatal(err)
		}
	}
}

// chain is east, west and north, where north knows west only.
type chain struct {
	east, west, north *party
	toEast            *sitetest.Link // from west
}

func newChain(t *testing.T) *chain {
	t.Helper()
	c := &chain{east: newParty(t, "east", eastID), west: newParty(t, "west", westID), north: newParty(t, "north", northID)}
	c.toEast = sitetest.NewLink(t, c.east.at.Server.URL())
	befriend(t, c.east, c.west, c.toEast.URL, c.west.at.Server.URL())
	befriend(t, c.west, c.north, c.west.at.Server.URL(), c.north.at.Server.URL())
	c.east.own("")
	must[api.Image](c.east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: 8 << 20})
	c.east.write("disk0", []byte("before"), 5<<20)
	c.west.follow()
	c.west.sameAs(c.east)
	c.north.follow()
	c.north.sameAs(c.east)
	return c
}

func (p *party) lastSource() *source { return p.follower.followers[p.id].lastSource() }

func (p *party) lag() api.Lag { return must[api.Status](p, api.DirectoryStatus, api.Nothing{}).Lag }

// waitsFor returns the position that a follower's journal waits for, of its own followers.
func (p *party) waitsFor() events.Position {
	return p.follower.clients.Needed(p.id, "vms", p.follower.primaryOf(p.id))
}

// A follower of a follower goes on following it as long as there is nothing better, over a
// fail-over to it too, and knows how far the primary is.
func TestChainOfSites(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	source := c.north.lastSource()
	primary := func() string { return must[api.Status](c.north, api.DirectoryStatus, api.Nothing{}).Primary }
	sitetest.Eventually(t, "north knows a primary that it does not follow", func() bool { return primary() == "east" })
	until := time.Now().Add(betterAge + 2*time.Second) // it has looked for a better one by then
	for time.Now().Before(until) {
		c.east.write("disk0", noise(8<<10), 1<<20)
		<-time.After(10 * time.Millisecond)
	}
	c.north.sameAs(c.east)
	if c.north.lastSource() != source {
		t.Error("north has set up anew what it followed")
	}
	committed := c.north.follower.followers[northID].marks().Committed.Position
	if needed := c.west.waitsFor(); needed > c.north.follower.followers[northID].marks().Applied.Position || needed == 0 {
		t.Errorf("west's journal waits for %v, north has committed %v", needed, committed)
	}

	c.toEast.BlackHole() // north hears west, and west hears nobody
	sitetest.Eventually(t, "north knows that the primary is not heard", func() bool { return c.north.lag().Unheard > 0 })
	c.east.write("disk0", noise(8<<10), 2<<20)
	c.toEast.Heal()
	c.north.sameAs(c.east)
	sitetest.Eventually(t, "the primary is heard again", func() bool { return c.north.lag() == (api.Lag{}) })

	c.east.release()
	c.east.follow() // and so be who west gets the demotion from
	sawDemotion(t, c.west, c.east)
	sawDemotion(t, c.north, c.east)
	c.west.release()
	c.west.own(events.TagPromoted)
	c.west.write("disk0", noise(8<<10), 3<<20)
	c.north.sameAs(c.west)
	if c.north.lastSource() != source {
		t.Error("north was set up anew when the site that it follows became primary")
	}
	sitetest.Eventually(t, "north knows its primary", func() bool { return primary() == "west" })
	c.east.sameAs(c.west)
}

// A site whose journal begins anew after a resync says so to who follows it, whose resync then
// takes from it: there is no primary in reach.
func TestResyncAlongAChain(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	sitetest.Eventually(t, "west is disconnected", func() bool {
		// On a busy machine west may follow north for a moment, and is then no client of east's.
		_, err := ask[api.Nothing](c.east, api.JournalDisconnect, api.JournalClientRequest{Client: "west.node"})
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			t.Fatal(err)
		}
		return c.west.shows(Disconnected, "")()
	})
	c.east.write("disk0", noise(8<<10), 1<<20)
	c.west.resync(1, false)
	c.west.sameAs(c.east)
	sitetest.Eventually(t, "north says why it does not follow", c.north.shows(Errored, "its journal begins behind"))
	c.north.resync(1, false)
	c.north.sameAs(c.east)
	c.east.write("disk0", noise(8<<10), 2<<20)
	c.north.sameAs(c.east)
}

// Several peers follow one primary; one is added later, one is removed and not waited for.
func TestPeersComeAndGo(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	befriend(t, c.east, c.north, c.east.at.Server.URL(), c.north.at.Server.URL()) // later
	sitetest.Eventually(t, "north follows the primary itself", func() bool { return c.north.lastSource().peer.Site == "east" })
	c.east.write("disk0", noise(8<<10), 1<<20)
	c.north.sameAs(c.east)
	c.west.sameAs(c.east)
	sitetest.Eventually(t, "west does not wait for north any more", func() bool { return c.west.waitsFor() > c.west.follower.followers[westID].marks().Logged.Position })

	c.toEast.Cut()
	for _, p := range []*party{c.east, c.north} {
		_, err := p.at.Bus.Publish(t.Context(), events.StreamPools, &events.PeerRemoved{Pool: "vms", Peer: c.west.at.Node.Site.UUID})
		if err != nil {
			t.Fatal(err)
		}
	}
	behind := c.west.follower.followers[westID].marks().Committed.Position
	c.east.write("disk0", noise(8<<10), 2<<20)
	c.north.sameAs(c.east)
	sitetest.Eventually(t, "east does not wait for west any more", func() bool {
		clients := must[api.Status](c.east, api.DirectoryStatus, api.Nothing{}).Clients
		for _, client := range clients {
			if client.ID == "west.node" && client.Position <= behind {
				return false
			}
		}
		return true
	})
}

// Sites that follow each other while the primary is gone come to no harm, and follow it
// again when it is back.
func TestFollowersOfEachOther(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	befriend(t, c.east, c.north, c.east.at.Server.URL(), c.north.at.Server.URL())
	sitetest.Eventually(t, "north follows the primary itself", func() bool { return c.north.lastSource().peer.Site == "east" })
	c.toEast.Cut() // west follows north now
	sitetest.Eventually(t, "west follows north", func() bool { return c.west.lastSource().peer.Site == "north" })
	c.east.write("disk0", noise(8<<10), 1<<20)
	c.west.sameAs(c.east)
	c.east.release() // nobody is primary
	c.east.follow()
	sawDemotion(t, c.north, c.east)
	sawDemotion(t, c.west, c.east)
	c.toEast.Heal()
	until := time.Now().Add(betterAge + stallPeriod/2)
	for time.Now().Before(until) {
		if lag := c.west.lag(); lag.Entries != 0 {
			t.Fatalf("nobody writes, and west is behind: %+v", lag)
		}
		<-time.After(100 * time.Millisecond)
	}
	c.east.release()
	c.east.own(events.TagPromoted)
	c.east.write("disk0", noise(8<<10), 2<<20)
	c.west.sameAs(c.east)
	c.north.sameAs(c.east)
	for _, p := range []*party{c.west, c.north} {
		sitetest.Eventually(t, p.at.Node.Site.Name+" follows the primary", func() bool { return p.lastSource().peer.Site == "east" })
	}
}

// Two sites follow each other while nobody is primary. A third one was primary meanwhile, for so
// short a time that they did not hear of it: they come to hold its demotion too, without which
// none of them can be promoted.
func TestShortPrimary(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	toNorth := sitetest.NewLink(t, c.north.at.Server.URL())
	befriend(t, c.east, c.north, c.east.at.Server.URL(), toNorth.URL)
	addPeer(t, c.west.at, c.north.at.Node.Site, toNorth.URL)
	c.east.release()
	c.east.follow()
	sawDemotion(t, c.west, c.east)
	sawDemotion(t, c.north, c.east)
	toNorth.Cut()
	for p, site := range map[*party]string{c.east: "west", c.west: "east"} {
		sitetest.Eventually(t, "it follows "+site, func() bool {
			source := p.lastSource()
			return source != nil && source.peer.Site == site
		})
	}
	c.north.release()
	c.north.own(events.TagPromoted)
	c.north.write("disk0", noise(8<<10), 2<<20)
	c.north.release()
	c.north.follow()
	toNorth.Heal()
	for _, p := range []*party{c.east, c.west} {
		sawDemotion(t, p, c.north)
	}
}

func TestWhichSiteIsBetterFollowed(t *testing.T) {
	holding := func(p events.Position, entries uint64) events.Mark { return events.Mark{Position: p, Entries: entries} }
	order := []candidate{
		{primary: true},
		{hears: true, applied: holding(7, 3)},
		{hears: true, applied: holding(5, 3)},
		{hears: true, applied: holding(8, 2)}, // later claims, and fewer entries
		{applied: holding(9, 9)},
		{applied: holding(8, 9)},
	}
	for i, a := range order {
		for k, b := range order {
			if got := a.beats(b); got != (i < k) {
				t.Errorf("%+v beats %+v: %v", a, b, got)
			}
		}
	}
}
