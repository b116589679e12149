package access

import (
	"tidemark/events"
	"tidemark/internal/api"
)

// Directory is a directory that a peer may follow.
type Directory struct {
	ID   events.DirectoryID
	Name events.DirectoryName
}

// Peer is what another site does with which a pool is shared: it asks for the pool's
// directories, copies them, follows their journals and hears their heads. A peer of several
// pools has the grants of all of them; see [Join].
//
// It publishes into no stream: how far it has come it says to the holder of the directory. So
// what it has the server deliver to a subject of its choice, as a reply or to a consumer, is
// always something that a service of this site wrote for another purpose.
func Peer(_, pool string, directories ...Directory) Grant {
	g := asking(pool, directories)
	for _, d := range directories {
		g.Publish = append(g.Publish, heed(events.JournalStream(d.Name, d.ID))...)
		for _, request := range copyRequests() {
			g.Publish = append(g.Publish, api.HolderSubject(d.ID, request))
		}
		g.Subscribe = append(g.Subscribe, events.HeadSubject(d.ID))
	}
	g.Publish, g.Subscribe = tidy(append(g.Publish, api.PaceSubjects)), tidy(g.Subscribe)
	return g
}

// asking is what a peer does before it copies anything: it asks how directories stand, and is
// told what it is refused.
func asking(pool string, directories []Directory) Grant {
	g := Grant{Name: "peer of pool " + pool, Publish: []string{api.SharedResolve(pool), api.SharedList(pool)}}
	for _, d := range directories {
		for _, request := range []string{api.DirectoryStatus, api.HistoryRead, api.SyncBegin, api.SyncCheck} {
			g.Publish = append(g.Publish, api.HolderSubject(d.ID, request))
		}
	}
	g.Publish = tidy(g.Publish)
	return g
}

// copyRequests are the requests about a directory that its followers make, besides asking.
// There are as few of them as may be: a peer's connections each hold all of its grant.
func copyRequests() []string {
	return []string{api.PositionReport, api.PositionLast, api.SyncRequests, api.VerifyRequests}
}

// Joining is what the bearer of a token does: it asks to be let in. Which pool the token is
// for, its secret decides.
func Joining(_, pool string) Grant {
	return Grant{Name: "token of pool " + pool, Publish: []string{api.PeerJoin}}
}
