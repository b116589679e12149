package replayer

import (
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/sitetest"
)

// journal 212: what a forced promotion would lose is the last head that was heard against
// what was received. It is known after a restart too, when the source is gone; who never
// heard anything says so.
func TestWhatAForcedPromotionLoses(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.create("disk0", 4<<20)
	o.random(20)
	o.settle()
	s, at, stop := west(t, t.TempDir(), o)
	ahead := func() *api.Ahead {
		t.Helper()
		status, err := s.followers[westID].status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return status.Ahead
	}
	sitetest.Eventually(t, "west is level, and knows it", func() bool {
		a := ahead()
		return s.level(o.mark())() && a != nil && a.Known && *a == api.Ahead{Site: "east", Heard: a.Heard, Known: true}
	})
	o.silence() // of the heads that o repeats

	head := o.mark()
	head.Position += 7
	head.Entries += 7
	head.Bytes += 7000
	head.Time += events.Instant(3 * time.Second)
	sitetest.Eventually(t, "a head is heard whose entries never come", func() bool {
		if err := o.site.Bus.Send(&events.HeadAdvanced{Directory: eastID, Logged: head, Safe: o.mark()}); err != nil {
			t.Fatal(err)
		}
		return ahead().Entries == 7
	})
	was := ahead()
	if was.Bytes != 7000 || was.Seconds < 2.9 || was.Seconds > 60 || !was.Known || time.Since(was.Heard.Time()) > time.Minute {
		t.Errorf("%+v", was)
	}
	stop()
	o.site.Server.Stop()
	s, _ = follow(t, at)
	now := ahead()
	if now.Entries != 7 || now.Bytes != 7000 || now.Site != "east" || !now.Known || now.Heard < was.Heard {
		t.Errorf("after a restart %+v, before it %+v", now, was)
	}
}

func TestNothingHeardIsNothingKnown(t *testing.T) {
	t.Parallel()
	p := newParty(t, "west", westID)
	p.follow() // there is no peer
	if a := p.status().Ahead; a == nil || a.Known || a.Entries != 0 || a.Heard != 0 {
		t.Errorf("%+v", a)
	}
}
