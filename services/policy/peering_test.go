package policy_test

import (
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// site starts the policy of a site that has the pool vms.
func policySite(t *testing.T, name string) *world {
	t.Helper()
	w := newWorld(t, name)
	w.startPolicy()
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	return w
}

// follows makes a site a peer of another one, whose token it imports.
func (w *world) follows(source *world, way events.Direction) {
	w.t.Helper()
	call[api.Peer](w, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: source.token(0).Token, Direction: way})
}

// peering returns the directions of a site's peers, by their sites.
func (w *world) peering() map[string]events.Direction {
	w.t.Helper()
	ways := map[string]events.Direction{}
	for _, p := range w.peers() {
		if (p.URL == "") != (p.Direction == events.SendOnly) {
			w.t.Errorf("peer %+v", p)
		}
		ways[p.Site] = p.Direction
	}
	return ways
}

func (w *world) demandPeering(want map[string]events.Direction) {
	w.t.Helper()
	got := w.peering()
	if len(got) != len(want) {
		w.t.Errorf("peers of %s: %v, want %v", w.node.Site.Name, got, want)
	}
	for site, way := range want {
		if got[site] != way {
			w.t.Errorf("peers of %s: %v, want %v", w.node.Site.Name, got, want)
		}
	}
}

// A site is not its own peer, whatever its token says about where it comes from.
func TestSelfPeering(t *testing.T) {
	east := policySite(t, "east")
	token := east.token(0).Token
	importing := func(token string) api.PeerImportRequest { return api.PeerImportRequest{Pool: "vms", Token: token} }
	t.Run("directories 6, 7 the same site", func(t *testing.T) {
		east.refused(fault.Busy, api.PeerImport, importing(token), "own peer")
		east.refused(fault.Busy, api.PeerImport, importing(forge(t, token, map[string]any{"site": "west"})), "own peer")
		east.refused(fault.Busy, api.PeerImport, importing(forge(t, token, map[string]any{"site": "west", "uuid": "beef"})), "own peer")
	})
	t.Run("directories 7 a peer by name", func(t *testing.T) {
		twin := policySite(t, "east")
		twin.refused(fault.Exists, api.PeerImport, importing(token), "both called", `"east"`)
		renamed := forge(t, token, map[string]any{"site": "west"})
		twin.refused(fault.Exists, api.PeerImport, importing(renamed), "join site west at", "both called")
	})
	if ways := east.peering(); len(ways) != 0 {
		t.Errorf("peers are there: %v", ways)
	}
}

// The same site is a peer of a pool once; how is changed by removing it first.
func TestSamePeerTwice(t *testing.T) {
	east, west := policySite(t, "east"), policySite(t, "west")
	token := east.token(0).Token
	west.follows(east, events.ReceiveAndSend)
	before := append(west.peers(), east.peers()...)
	for _, again := range []string{token, east.token(0).Token} { // directories 8
		for _, way := range []events.Direction{events.ReceiveAndSend, events.ReceiveOnly} {
			west.refused(fault.Exists, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: again, Direction: way},
				"east is a peer", "mirror peer remove vms "+east.node.Site.UUID)
		}
	}
	for i, p := range append(west.peers(), east.peers()...) {
		if p != before[i] {
			t.Errorf("peer %+v was %+v", p, before[i])
		}
	}
	call[api.Nothing](west, api.PeerRemove, api.PeerRemoveRequest{Pool: "vms", Peer: "east"})
	west.follows(east, events.ReceiveOnly) // east still knows it, otherwise
	west.demandPeering(map[string]events.Direction{"east": events.ReceiveOnly})
	east.demandPeering(map[string]events.Direction{"west": events.SendOnly})
}

// Peers in a ring are no loop: what flows is directories, and each has one primary.
// directories 11, 22.
func TestRingsOfPeers(t *testing.T) {
	t.Run("directories 11 both ways, one after the other", func(t *testing.T) {
		for _, way := range []events.Direction{events.ReceiveOnly, events.ReceiveAndSend} {
			east, west := policySite(t, "east"), policySite(t, "west")
			west.follows(east, events.ReceiveOnly)
			east.follows(west, way)
			west.demandPeering(map[string]events.Direction{"east": events.ReceiveAndSend})
			east.demandPeering(map[string]events.Direction{"west": events.ReceiveAndSend})
		}
	})
	t.Run("directories 22 three in a ring, each with two peers", func(t *testing.T) {
		east, west, north := policySite(t, "east"), policySite(t, "west"), policySite(t, "north")
		west.follows(east, events.ReceiveOnly)
		north.follows(west, events.ReceiveOnly)
		east.follows(north, events.ReceiveOnly)
		east.demandPeering(map[string]events.Direction{"west": events.SendOnly, "north": events.ReceiveOnly})
		west.demandPeering(map[string]events.Direction{"east": events.ReceiveOnly, "north": events.SendOnly})
		north.demandPeering(map[string]events.Direction{"west": events.ReceiveOnly, "east": events.SendOnly})
	})
	t.Run("directories 22 two of one name", func(t *testing.T) {
		east, west, other := policySite(t, "east"), policySite(t, "west"), policySite(t, "west")
		west.follows(east, events.ReceiveAndSend)
		other.refused(fault.Exists, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: east.token(0).Token},
			"another peer that is called", west.node.Site.UUID)
		east.refused(fault.Exists, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: other.token(0).Token},
			"another peer that is called", west.node.Site.UUID)
		east.demandPeering(map[string]events.Direction{"west": events.ReceiveAndSend})
	})
}

// directories 17: an import that was cut short is made again with the same token, wherever
// it ended.
func TestImportGoesOn(t *testing.T) {
	join := func(east, west *world, token string) {
		in := content(east.t, token)
		call[api.JoinReply](east, api.PeerJoin, api.JoinRequest{
			Pool: "vms", Token: in["token"].(string), Secret: in["secret"].(string), Site: "west", UUID: west.node.Site.UUID,
			URL: west.node.URL, Direction: events.ReceiveAndSend, Number: west.node.Site.Number,
		})
	}
	for name, cut := range map[string]func(east, west *world, token string){
		"the other site knows": join,
		"mirroring is on": func(east, west *world, token string) {
			join(east, west, token)
			call[api.Pool](west, api.MirrorEnable, api.Pool{Pool: "vms"})
		},
	} {
		t.Run("directories 17 "+name, func(t *testing.T) {
			east, west := policySite(t, "east"), policySite(t, "west")
			token := east.token(0).Token
			cut(east, west, token)
			call[api.Peer](west, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: token})
			if n := east.count(events.StreamPools, "peer_added"); n != 1 {
				t.Errorf("east added %d peers", n)
			}
			west.demandPeering(map[string]events.Direction{"east": events.ReceiveAndSend})
			if p := west.describe("vms"); !p.Mirroring {
				t.Errorf("the pool is %+v", p)
			}
		})
	}
}

// describe returns a pool.
func (w *world) describe(pool string) api.Pool {
	w.t.Helper()
	for _, p := range call[[]api.Pool](w, api.PoolList, api.Nothing{}) {
		if p.Pool == pool {
			return p
		}
	}
	w.t.Fatalf("there is no pool %s", pool)
	return api.Pool{}
}

// directories 9: a peer and a token switch mirroring on: there is no step to forget.
func TestPeersSwitchMirroringOn(t *testing.T) {
	east, west := policySite(t, "east"), policySite(t, "west")
	for _, w := range []*world{east, west} { // directories 1
		if p := w.describe("vms"); p != (api.Pool{Pool: "vms"}) {
			t.Errorf("created: %+v", p)
		}
	}
	west.follows(east, events.ReceiveOnly)
	for _, w := range []*world{east, west} {
		if p := w.describe("vms"); p != (api.Pool{Pool: "vms", Mirroring: true, Peers: 1}) {
			t.Errorf("after the import: %+v", p)
		}
	}
}

// A peer that is gone for ever is removed, at once, and its directories stay.
func TestUnreachablePeerIsRemoved(t *testing.T) {
	east, west := policySite(t, "east"), policySite(t, "west")
	west.follows(east, events.ReceiveAndSend)
	call[api.Directory](west, api.MirrorAdd, dir("vms", "/db"))
	east.server.Stop()
	call[api.Nothing](west, api.PeerRemove, api.PeerRemoveRequest{Pool: "vms", Peer: "east"})
	west.demandPeering(nil)
	west.refused(fault.NotFound, api.PeerRemove, api.PeerRemoveRequest{Pool: "vms", Peer: "east"})
	west.refused(fault.NotReady, api.MirrorAdd, dir("vms", "/other"), "import-token vms")
	if d := west.state(dir("vms", "/db")); d.Role != events.Slave {
		t.Errorf("its directory: %+v", d)
	}
}

// directories 16: what has an owner already is not added again, and the refusal says who it is.
func TestOwnerIsNamed(t *testing.T) {
	w, _ := startAll(t, "west")
	w.mirroredPool("vms")
	for _, subject := range []string{api.MirrorAdd, api.DirectoryCreate} {
		name := dir("vms", "/of"+subject)
		d := call[api.Directory](w, api.MirrorAdd, name)
		w.refused(fault.Exists, subject, name, "it follows a peer")
		w.stands(d.ID, func() api.Status { return api.Status{Stream: "open", Primary: "east"} })
		w.refused(fault.Exists, subject, name, "it follows site east, its primary")
	}
	own := dir("vms", "/own")
	call[api.Directory](w, api.DirectoryCreate, own)
	w.refused(fault.Exists, api.MirrorAdd, own, "it is primary here")
}
