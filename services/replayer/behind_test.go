package replayer

import (
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/sitetest"
)

// A former primary that looks at a replica which has stored nothing yet, because all that it
// has came with its first sync, is ahead of it: that is no split brain, now or when the rest
// arrives. rivals 2.
func TestFormerPrimaryIsAheadOfAnEmptyJournal(t *testing.T) {
	t.Parallel()
	east, west := newPair(t)
	east.own("")
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: 1 << 20})
	west.follow()
	west.sameAs(east)
	west.limit(1)
	bucket := west.follower.followers[westID].rate.bucket
	sitetest.Eventually(t, "nothing more may come", func() bool {
		return bucket.Limit() == 1 && bucket.AllowN(time.Now(), rateBurst)
	})
	east.write("disk0", make([]byte, 256<<10), 0)
	east.release()
	east.follow()
	sitetest.Eventually(t, "east has looked at west", func() bool {
		f := east.follower.followers[eastID]
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.last != nil || f.err != nil
	})
	west.limit(0)
	sitetest.Eventually(t, "west has the demotion", func() bool {
		own := west.follower.followers[westID].copy()
		return own != nil && own.replica.Tag().Reason == events.TagDemoted
	})
	west.release()
	west.own(events.TagPromoted)
	east.sameAs(west)
	for _, p := range []*party{east, west} {
		if n := len(p.notes(events.Diverged)); n > 0 {
			t.Errorf("%s: %d split brains", p.at.Node.Site.Name, n)
		}
	}
}
