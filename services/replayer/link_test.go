package replayer

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/sitetest"
)

// resumeMax is how soon after the return of a link replay goes on.
const resumeMax = 2 * time.Second

// linked is a pair whose follower reaches its owner over a link, while a writer goes on.
type linked struct {
	east, west *party
	link       *sitetest.Link
	stop       func() // of the writer
}

func newLinked(t *testing.T) *linked {
	east, west := newPair(t)
	l := &linked{east, west, sitetest.NewLink(t, east.at.Server.URL()), nil}
	addPeer(t, west.at, east.at.Node.Site, l.link.URL)
	east.own("")
	must[api.Image](east, api.ImageCreate, api.ImageCreateRequest{Image: "disk0", Size: 16 << 20})
	east.write("disk0", []byte("before"), 5<<20)
	return l
}

// keepWriting writes small blocks until stopped.
func (l *linked) keepWriting(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var writing sync.WaitGroup
	dev := l.east.open("vms/prod/disk0")
	writing.Go(func() {
		random := rand.New(rand.NewPCG(7, 7))
		for ctx.Err() == nil {
			data := make([]byte, 4096)
			for i := range data {
				data[i] = byte(random.Uint32())
			}
			done := make(chan error, 1)
			dev.Write(context.Background(), data, uint64(random.IntN(4096))*4096, false, func(err error) { done <- err })
			if err := <-done; err != nil {
				t.Errorf("write: %v", err)
				return
			}
			select {
			case <-time.After(2 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	l.stop = sync.OnceFunc(func() {
		cancel()
		writing.Wait()
		_ = dev.Close(context.Background())
	})
	t.Cleanup(l.stop)
}

// resumes waits until west has applied more than it has now, and returns when the link was back.
func (l *linked) resumes(t *testing.T, heal func()) (began time.Time) {
	t.Helper()
	f := l.west.follower.followers[westID]
	had := f.marks().Applied.Position
	heal()
	began = time.Now()
	sitetest.Eventually(t, "west goes on", func() bool { return f.marks().Applied.Position > had })
	return began
}

func (l *linked) mustResume(t *testing.T, heal func()) {
	t.Helper()
	began := l.resumes(t, heal)
	sitetest.Prompt(t, "replay goes on after the link is back", began, resumeMax)
}

// Whatever the link does while east goes on being written, west goes on soon after it is
// back, and holds what east holds.
//
// journal 242: start, then write, both equal. rivals 6: what was applied is not sent again.
func TestReplayGoesOnSoonAfterTheLinkIsBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		delay time.Duration // one way
		fail  func(*sitetest.Link)
		down  []time.Duration
	}{
		{"cut", 0, (*sitetest.Link).Cut, []time.Duration{300 * time.Millisecond, 4 * time.Second}},
		{"black hole", 0, (*sitetest.Link).BlackHole, []time.Duration{4 * time.Second, 7 * time.Second}},
		{"cut, a round trip of 200 ms", 100 * time.Millisecond, (*sitetest.Link).Cut, []time.Duration{time.Second, 4 * time.Second}},
		{"black hole, a round trip of 200 ms", 100 * time.Millisecond, (*sitetest.Link).BlackHole, []time.Duration{4 * time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLinked(t)
			l.link.Slow(c.delay, 0)
			l.west.follow()
			l.west.sameAs(l.east) // the first sync is over
			l.keepWriting(t)
			l.resumes(t, func() {})
			for _, down := range c.down {
				c.fail(l.link)
				<-time.After(down)
				l.mustResume(t, l.link.Heal)
			}
			l.stop()
			l.west.sameAs(l.east)
		})
	}
}

// The message that was kept last is no longer where it was: the source has cut its journal just
// there, or has another one, shorter or not. That is noticed, and following goes on.
func TestJournalMovesWhileTheLinkIsDown(t *testing.T) {
	t.Parallel()
	for name, move := range map[string]func(*origin){
		"cut just there": func(o *origin) {
			if err := o.log.Trim(t.Context(), o.seq+1); err != nil {
				t.Fatal(err)
			}
		},
		"begun anew": (*origin).beginJournalAnew,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			o.create("disk0", 4<<20)
			o.random(20)
			o.settle()
			s, _, _ := west(t, t.TempDir(), o)
			sitetest.Eventually(t, "west is level", s.level(o.mark()))
			o.random(5) // which west keeps where it can look for it
			o.settle()
			sitetest.Eventually(t, "west is level", s.level(o.mark()))
			move(o)
			s.followers[westID].lastSource().close()
			sitetest.Eventually(t, "the source is followed anew", func() bool { return s.followers[westID].lastSource().talk.ended.Err() == nil })
			o.random(20)
			o.settle()
			sitetest.Eventually(t, "west follows", s.level(o.mark()))
			if status := s.followers[westID].described(); status.Split != nil || status.State == string(SplitBrain) {
				t.Errorf("%+v", status)
			}
		})
	}
}

// beginJournalAnew replaces the journal by an empty one, which goes on where it ended.
func (o *origin) beginJournalAnew() {
	o.t.Helper()
	if err := o.site.Bus.RemoveLog(context.Background(), o.stream().Name); err != nil {
		o.t.Fatal(err)
	}
	log, err := o.site.Bus.OpenLog(context.Background(), o.stream())
	if err != nil {
		o.t.Fatal(err)
	}
	o.log, o.seq = log, 0
}

// A link that fails again and again leaves nothing behind that waits.
func TestReplayGoesOnAfterALinkThatFlaps(t *testing.T) {
	t.Parallel()
	l := newLinked(t)
	l.west.follow()
	l.west.sameAs(l.east)
	l.keepWriting(t)
	random := rand.New(rand.NewPCG(3, 9))
	for i := range sitetest.Rounds(20) {
		fail := l.link.Cut
		if i%3 == 0 {
			fail = l.link.BlackHole
		}
		fail()
		<-time.After(time.Duration(random.IntN(400)) * time.Millisecond)
		l.link.Heal()
		<-time.After(time.Duration(random.IntN(600)) * time.Millisecond)
	}
	l.link.Cut()
	<-time.After(300 * time.Millisecond) // what had come is applied
	l.mustResume(t, l.link.Heal)
	l.stop()
	l.west.sameAs(l.east)
}

// A slow link is none that is dead: a first sync and a backlog over it take their time, and
// the heads come meanwhile.
func TestSlowLinkIsNotTakenForADeadOne(t *testing.T) {
	t.Parallel()
	l := newLinked(t)
	l.link.Slow(100*time.Millisecond, 1250<<10) // 10 Mbit/s, a round trip of 200 ms
	l.east.write("disk0", noise(6<<20), 8<<20)
	began := time.Now()
	l.west.follow()
	f := l.west.follower.followers[westID]
	sitetest.Eventually(t, "the first sync is over", func() bool {
		own := f.copy()
		return own != nil && own.complete() && own.replica.Applied() != (events.Mark{})
	})
	t.Logf("first sync of 6 MiB: %s", time.Since(began).Round(time.Millisecond))
	first := f.lastSource()
	l.keepWriting(t)
	l.east.write("disk0", noise(6<<20), 0) // the backlog of a few seconds
	want := must[api.Status](l.east, api.DirectoryStatus, api.Nothing{}).Position.Position
	sitetest.Eventually(t, "west has caught up", func() bool { return f.marks().Applied.Position >= want })
	if got := f.lastSource(); got != first {
		t.Error("the source was dialled anew")
	}
	l.stop()
	l.west.sameAs(l.east)
}

func noise(size int) []byte {
	data := make([]byte, size)
	random := rand.NewChaCha8([32]byte{5})
	_, _ = random.Read(data) // never fails
	return data
}

// gatherTurns gathers what a site's listeners are told of a directory.
func gatherTurns(t *testing.T, p *party) func(events.Lifecycle) int {
	t.Helper()
	var mu sync.Mutex
	told := map[events.Lifecycle]int{}
	ctx, cancel := context.WithCancel(context.Background())
	var listening sync.WaitGroup
	listening.Go(func() {
		_ = p.at.Bus.Fold(ctx, events.StreamLifecycle, func() {}, func(_ uint64, fact events.Fact) error {
			mu.Lock()
			defer mu.Unlock()
			if noted, ok := fact.(*events.LifecycleNoted); ok {
				told[noted.What]++
			}
			return nil
		})
	})
	t.Cleanup(func() { cancel(); listening.Wait() })
	return func(what events.Lifecycle) int {
		mu.Lock()
		defer mu.Unlock()
		return told[what]
	}
}

// rivals 7: a link that is dead is an alarm although nothing is written; rivals 15: when it
// is back the alarm is taken back. journal 307: the copy keeps what it has meanwhile.
func TestLagGrowsWhileTheLinkIsDead(t *testing.T) {
	t.Parallel()
	l := newLinked(t)
	told := gatherTurns(t, l.west)
	if _, err := l.west.at.Bus.Publish(t.Context(), events.StreamDirectories,
		&events.DirectoryConfigured{Directory: westID, Pool: "vms", TargetRPO: 4 * time.Second}); err != nil {
		t.Fatal(err)
	}
	l.west.follow()
	l.west.sameAs(l.east)
	lag := func() api.Lag { return must[api.Status](l.west, api.DirectoryStatus, api.Nothing{}).Lag }
	idle := time.Now()
	for time.Since(idle) < 5*time.Second { // an idle image is never behind
		if got := lag(); got.Unheard == 0 && got != (api.Lag{}) { // a busy machine may hear nothing for a while
			t.Fatalf("idle and level, and the lag is %+v", got)
		}
		<-time.After(100 * time.Millisecond)
	}
	l.link.BlackHole()
	var last float64
	sitetest.Eventually(t, "the lag grows", func() bool {
		got := lag().Seconds
		if got < last {
			t.Fatalf("the lag sinks from %g to %g s while the link is dead", last, got)
		}
		last = got
		return got > 12
	})
	sitetest.Eventually(t, "the alarms are raised", func() bool {
		return told(events.RPOExceeded) > told(events.RPORestored) && told(events.Stalled) > told(events.Resumed)
	})
	l.west.read("vms/prod/disk0")
	l.link.Heal()
	sitetest.Eventually(t, "the alarms are taken back", func() bool {
		return told(events.RPORestored) == told(events.RPOExceeded) && told(events.Resumed) == told(events.Stalled)
	})
	sitetest.Eventually(t, "nothing is behind", func() bool { return lag() == (api.Lag{}) })
}
