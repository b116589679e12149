package replayer

import (
	"slices"
	"testing"

	"tidemark/internal/api"
	"tidemark/internal/holder"
	"tidemark/internal/sitetest"
)

// A client that says where its history ends is made known only where the history leads through
// there: for nobody else's sake is a journal kept.
func TestMadeKnownOnlyWithACommonHistory(t *testing.T) {
	t.Parallel()
	east, west := levelPair(t)
	own := west.follower.followers[westID].copy()
	right := *holder.TipOf(own.replica)
	otherLife, otherTag, otherChain, ahead := right, right, right, right
	otherLife.History = "another"
	otherTag.Claim.Mark.Chain++
	otherChain.End.Chain++
	ahead.End.Position++
	for client, c := range map[string]struct {
		tip    api.Tip
		linked bool
	}{
		"north.same": {right, true}, "north.life": {otherLife, false}, "north.tag": {otherTag, false},
		"north.chain": {otherChain, false}, "north.ahead": {ahead, false},
	} {
		reply := must[holder.SyncBeginReply](east, api.SyncBegin, api.SyncBeginRequest{
			Client: client, Site: west.at.Node.Site.UUID, Mark: right.End, Tip: &c.tip,
		})
		known := func() bool {
			return slices.ContainsFunc(east.status().Clients, func(c api.Client) bool { return c.ID == client })
		}
		if reply.Linked != c.linked || reply.Stream == "" || !c.linked && known() {
			t.Errorf("%s: %+v", client, reply)
		}
		if c.linked {
			sitetest.Eventually(t, client+" is known", known)
		}
	}
}
