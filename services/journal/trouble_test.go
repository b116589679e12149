package journal

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
)

// gated is a syncer whose syncs wait while the gate is locked.
type gated struct {
	bus.Syncer
	gate sync.RWMutex
}

func (g *gated) Sync(ctx context.Context, stream string) error {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.Syncer.Sync(ctx, stream)
}

// An operation whose client has given up keeps the directory until it is applied: a write
// let in before would be checked against the size that is about to change, and be logged
// as an entry that no replica can apply.
func TestOperationKeepsTheDirectoryUntilItIsApplied(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	g := &gated{Syncer: at.Server}
	b, err := bus.Connect(bus.Config{Name: "gated", Syncer: g, Log: at.Log, Dial: at.Server.Dial, Options: []nats.Option{at.Server.InProcess()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	at.Bus = b
	s, _ := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
	dev := open(t, s, "vms/prod/disk0")
	write(t, dev, pattern(1, 4096), 6<<20, true)
	l := d.life

	ctx, giveUp := context.WithCancel(t.Context())
	operated, wrote := make(chan error, 1), make(chan error, 1)
	g.gate.Lock()
	go func() {
		_, err := l.operate(ctx, operation{isolation: excluding}, "disk0", func(image *replica.Image) (events.Event, error) {
			defer giveUp()
			return events.ImageResized{Image: image.ID(), Size: 5 << 20}, nil
		})
		operated <- err
	}()
	<-ctx.Done()
	go dev.Write(t.Context(), pattern(2, 4096), 6<<20, false, func(err error) { wrote <- err })
	g.gate.Unlock()
	if err := <-operated; fault.CodeOf(err) != fault.Timeout {
		t.Errorf("an operation that nobody waits for: %v", err)
	}
	if err := <-wrote; fault.CodeOf(err) != fault.NoSpace {
		t.Errorf("a write beyond the new end: %v", err)
	}
	write(t, dev, pattern(3, 4096), 1<<20, true)
	if status, err := d.status(t.Context()); err != nil || status.State != string(Ready) {
		t.Errorf("state %q %s, %v", status.State, status.Error, err)
	}
}

func release(t testing.TB, s *Service, d *directory, demote bool) {
	t.Helper()
	_, quiesced, err := s.Release(t.Context(), &events.ReleaseRequested{
		Assignment: events.Assignment{Directory: d.id, Role: events.Master}, Pool: "vms", Path: "/prod", Demote: demote,
	})
	if err != nil || !quiesced {
		t.Fatalf("release: quiesced %v, %v", quiesced, err)
	}
}

// failures counts in a log how often directories have failed.
type failures struct {
	slog.Handler
	n *atomic.Int32
}

func (f failures) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "directory failed") {
		f.n.Add(1)
	}
	return f.Handler.Handle(ctx, r)
}

func (f failures) WithAttrs(attrs []slog.Attr) slog.Handler {
	return failures{f.Handler.WithAttrs(attrs), f.n}
}

// What was demoted takes no writes again without a promotion, however often the map says
// that this node holds it: the other site may be primary by now.
func TestDemotedDirectoryIsNotOpened(t *testing.T) {
	t.Parallel()
	_, s, d, _ := owning(t, 8<<20)
	release(t, s, d, true)
	release(t, s, d, true) // again, as after a lost answer
	r := &events.AcquireRequested{
		Assignment: events.Assignment{Directory: d.id, Role: events.Master, Epoch: 2}, Pool: "vms", Path: "/prod",
	}
	if _, err := s.Acquire(t.Context(), r); fault.CodeOf(err) != fault.NotPrimary {
		t.Fatalf("acquire what was demoted: %v", err)
	}
	r.Promote = events.TagPromoted
	if _, err := s.Acquire(t.Context(), r); err != nil {
		t.Fatalf("promote what was demoted: %v", err)
	}
}

// A promotion that is refused stays refused: trying again must not turn it into an
// ordinary opening.
func TestRefusedPromotionStaysRefused(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	failed := failures{at.Log.Handler(), new(atomic.Int32)}
	at.Log = slog.New(failed)
	s, _ := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
	release(t, s, d, false)
	d = s.start(&events.AcquireRequested{
		Assignment: events.Assignment{Directory: d.id, Role: events.Master, Epoch: 2}, Pool: "vms", Path: "/prod",
		Promote: events.TagPromoted, // though nobody has demoted it
	})
	sitetest.Eventually(t, "the promotion is refused three times", func() bool { return failed.n.Load() >= 3 })
	if d.opened != 0 {
		t.Fatal("a refused promotion has opened the directory")
	}
}

// journal 28: a tag whose entries run out is followed by another, and clients notice
// nothing.
func TestUsedUpTagIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	at, s, d, stop := owning(t, 8<<20)
	dev := open(t, s, "vms/prod/disk0")
	first := d.life.claim.Load()
	d.life.writer.maxEntry = 20
	data := pattern(1, 700_000) // runs of three
	for i := range 30 {
		write(t, dev, data, uint64(i)*4096, i%7 == 0)
	}
	last := d.life.claim.Load()
	if last.Reason != events.TagFull || last.Tag <= first.Tag {
		t.Errorf("after 90 entries in tags of 20 the tag is %d (%s), which was %d", last.Tag, last.Reason, first.Tag)
	}
	select {
	case <-dev.Ended():
		t.Error("the session ended")
	default:
	}
	for _, tag := range d.life.replica.Tags()[1:] {
		if tag.Predecessor.Position.Entry() > 20 {
			t.Errorf("tag %d follows entry %v", tag.Tag, tag.Predecessor.Position)
		}
	}
	stop()
	s, _ = start(t, at)
	acquire(t, s)
	if got := read(t, open(t, s, "vms/prod/disk0"), 29*4096, len(data)); string(got) != string(data) {
		t.Error("the last write is lost")
	}
}

// A log that has no room for a tag either answers its followers all the same: they are
// the ones who can make room.
func TestBrimfulJournalServesItsFollowers(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	run := func() (*Service, func()) {
		s := New(Deps{Bus: at.Bus, Node: at.Node, Log: at.Log, JournalBytesMax: 8 << 20})
		stop := sitetest.Run(t, s.Run)
		<-s.Ready()
		return s, stop
	}
	s, stop := run()
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
	d.life.writer.fullTime = 0
	dev := open(t, s, "vms/prod/disk0")
	result := make(chan error, 1)
	for _, n := range []int{200_000, 512, 1} {
		for err := error(nil); err == nil; err = <-result {
			dev.Write(t.Context(), pattern(1, n), 0, false, func(err error) { result <- err })
		}
	}
	stop()

	s, _ = run()
	s.start(&events.AcquireRequested{
		Assignment: events.Assignment{Directory: d.id, Role: events.Master, Epoch: 1}, Pool: "vms", Path: "/prod",
	})
	request := api.SyncBeginRequest{Client: "east.other", Site: at.Node.Site.UUID}
	sitetest.Eventually(t, "a follower is answered", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := api.Call[holder.SyncBeginReply](ctx, at.Bus.Conn(), api.HolderSubject(d.id, api.SyncBegin), request)
		return err == nil
	})
	if l, err := s.held()[0].current(); err == nil {
		t.Errorf("the journal still had room for tag %d", l.claim.Load().Tag)
	}
}
