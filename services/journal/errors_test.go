package journal

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

var errBroken = errors.New("broken on purpose")

// breakable is a filesystem that fails the next so many operations of a kind.
type breakable struct {
	kind atomic.Value // vfs.OpKind
	left atomic.Int64
	hits atomic.Int64
}

func (b *breakable) rule(op vfs.Op) error {
	if kind, _ := b.kind.Load().(vfs.OpKind); op.Kind != kind || b.left.Add(-1) < 0 {
		return nil
	}
	b.hits.Add(1)
	return errBroken
}

func (b *breakable) fail(kind vfs.OpKind, times int64) {
	b.left.Store(0)
	b.kind.Store(kind)
	b.left.Store(times)
}

func startOn(t *testing.T, at *sitetest.Site, b *breakable) (*Service, func()) {
	t.Helper()
	return with(t, at, func(d *Deps) { d.FS = vfs.NewFaulty(vfs.OS(), b.rule) })
}

func asMaster() *events.AcquireRequested {
	return &events.AcquireRequested{
		Assignment: events.Assignment{Operation: "1", Directory: "00112233aabbccdd", Role: events.Master, Epoch: 1},
		Pool:       "vms", Path: "/prod",
	}
}

// journal 90, journal 114: what fails while a directory is opened is returned as it is; it can be
// closed, and opened when the cause is gone.
func TestOpenFails(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	b := &breakable{}
	s, _ := startOn(t, at, b)
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
	release(t, s, d, false)
	for _, kind := range []vfs.OpKind{vfs.OpLock, vfs.OpOpen} {
		b.fail(kind, 1)
		if _, err := s.Acquire(t.Context(), asMaster()); !errors.Is(err, errBroken) {
			t.Errorf("%s fails: %v", kind, err)
		}
		if len(s.held()) != 0 {
			t.Errorf("%s fails: the directory is held all the same", kind)
		}
	}
	d = acquire(t, s)
	if got := infoOf(t, at, d, "disk0"); got.Size != 8<<20 {
		t.Errorf("%+v", got)
	}
}

// journal 91, journal 92, journal 95, journal 96, journal 102, journal 120: an error of the disk, while writes are applied and again
// while they are replayed, loses nothing: what could not be applied is not committed, the
// directory is opened again until it can be, and holds what was acknowledged.
func TestDiskErrorWhileReplaying(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	b := &breakable{}
	s, _ := startOn(t, at, b)
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
	dev := open(t, s, "vms/prod/disk0")
	data := pattern(1, 300_000)
	write(t, dev, data, 4096, true)
	first := d.life
	wantNil(t, first.tail.Drain(t.Context())) // else applying this fails, and the next write is not logged
	marks := first.tail.Marks()
	b.fail(vfs.OpWrite, 3) // one in this life, the others while it is replayed
	more := pattern(2, 4096)
	if err := <-later(t, dev, more, 1<<20, false); err != nil {
		t.Fatalf("a write that was logged: %v", err)
	}
	<-dev.Ended()
	if c, _ := first.replica.Committed(); c.Position >= first.tail.Marks().Logged.Position || c.Position > marks.Logged.Position {
		t.Errorf("committed at %v what could not be applied", c.Position)
	}
	sitetest.Eventually(t, "the directory is ready again", func() bool {
		l, err := d.current()
		return err == nil && l != first
	})
	if b.hits.Load() != 3 {
		t.Errorf("%d errors", b.hits.Load())
	}
	dev = open(t, s, "vms/prod/disk0")
	if !bytes.Equal(read(t, dev, 4096, len(data)), data) || !bytes.Equal(read(t, dev, 1<<20, len(more)), more) {
		t.Error("what was acknowledged is not there")
	}
}

// journal 93: a message of the log that does not decode is never passed over. The
// directory is opened again and again, and says why it cannot be.
func TestCorruptMessage(t *testing.T) {
	t.Parallel()
	at, s, d, _ := owning(t, 8<<20)
	log, last, name := d.life.log, d.life.tail.LastSequence(), at.Node.Site.Name
	release(t, s, d, false)
	if _, err := log.Append(t.Context(), events.EntriesSubject(name, d.id), []byte("\x9bnot a message"), last); err != nil {
		t.Fatal(err)
	}
	d = s.start(asMaster())
	sitetest.Eventually(t, "the directory has failed", func() bool {
		status, err := d.status(t.Context())
		return err == nil && status.State == string(Failed) && strings.Contains(status.Error, "corrupt")
	})
	if d.opened != 0 {
		t.Error("it was opened")
	}
}

// badSync is a syncer that fails while it is told to.
type badSync struct {
	bus.Syncer
	bad atomic.Bool
}

func (b *badSync) Sync(ctx context.Context, stream string) error {
	if b.bad.Load() {
		return errBroken
	}
	return b.Syncer.Sync(ctx, stream)
}

// journal 94, journal 101, journal 108: a log that cannot be synced fails those who wait for that, ends the
// sessions once, and is the error of a close that cannot make safe what was taken; the
// directory is closed all the same.
func TestSyncFails(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	syncer := &badSync{Syncer: at.Server}
	guarded(t, at, nil, syncer)
	s, _ := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
	dev := open(t, s, "vms/prod/disk0")
	syncer.bad.Store(true)
	if err := <-later(t, dev, pattern(1, 4096), 0, true); err == nil {
		t.Error("a forced write was acknowledged without being safe")
	}
	done := make(chan error, 1)
	dev.Flush(t.Context(), func(err error) { done <- err })
	if err := <-done; err == nil {
		t.Error("a flush was acknowledged without being safe")
	}
	<-dev.Ended()
	_, _, err := s.Release(t.Context(), &events.ReleaseRequested{
		Assignment: events.Assignment{Directory: d.id, Role: events.Master}, Pool: "vms", Path: "/prod",
	})
	if state, _ := d.condition(); state != Closed {
		t.Errorf("after the release (%v) it is %s", err, state)
	}
	syncer.bad.Store(false)
	d = acquire(t, s)
	if got := infoOf(t, at, d, "disk0"); got.Size != 8<<20 {
		t.Errorf("%+v", got)
	}
}

// journal 94: the error of a close is returned by it.
func TestStopFails(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	syncer := &badSync{Syncer: at.Server}
	held := &gated{Syncer: syncer}
	guarded(t, at, nil, held)
	s, _ := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
	d.life.tail.Hurry()
	dev := open(t, s, "vms/prod/disk0")
	held.gate.Lock()
	write(t, dev, pattern(1, 4096), 0, false)
	syncer.bad.Store(true) // logged, and not safe yet: the close has to make it so
	held.gate.Unlock()
	_, quiesced, err := s.Release(t.Context(), &events.ReleaseRequested{
		Assignment: events.Assignment{Directory: d.id, Role: events.Master}, Pool: "vms", Path: "/prod",
	})
	if err == nil || quiesced {
		t.Errorf("a close that made nothing safe: quiesced %v, %v", quiesced, err)
	}
	if state, _ := d.condition(); state != Closed {
		t.Errorf("it is %s", state)
	}
}

// journal 94: a directory that failed by itself, and is let go of in a pause before it is opened again or
// while it is, says so: what it had taken is as unsafe as if the close itself had failed.
// Asked again, it is let go of; once it was opened again there is nothing to say.
func TestReleaseAfterAFailure(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	syncer := &badSync{Syncer: at.Server}
	guarded(t, at, nil, syncer)
	s, _ := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
	dev := open(t, s, "vms/prod/disk0")
	syncer.bad.Store(true)
	if err := <-later(t, dev, pattern(1, 4096), 0, true); err == nil {
		t.Error("a forced write was acknowledged without being safe")
	}
	sitetest.Eventually(t, "it waits to be opened again", func() bool {
		state, _ := d.condition()
		return state == Restarting
	})
	r := &events.ReleaseRequested{Assignment: asMaster().Assignment, Pool: "vms", Path: "/prod"}
	if _, quiesced, err := s.Release(t.Context(), r); quiesced || !errors.Is(err, errBroken) {
		t.Errorf("what was not made safe: quiesced %v, %v", quiesced, err)
	}
	release(t, s, d, false)
	syncer.bad.Store(false)
	d = acquire(t, s)
	dev = open(t, s, "vms/prod/disk0")
	syncer.bad.Store(true)
	<-later(t, dev, pattern(2, 4096), 0, true)
	<-dev.Ended()
	syncer.bad.Store(false)
	sitetest.Eventually(t, "it is ready again", func() bool {
		l, err := d.current()
		return err == nil && l.replica.Applied().Position == l.tail.Marks().Logged.Position
	})
	release(t, s, d, false)
}

// journal 100: a write whose entry cannot be logged gets that error and changes nothing;
// so does what waits behind it. The directory is opened again.
func TestAppendFails(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	var bad atomic.Bool
	guarded(t, at, func() error {
		if bad.CompareAndSwap(true, false) {
			return errBroken // Room makes a full log of it
		}
		return nil
	}, nil)
	s, _ := start(t, at)
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
	first := d.life
	first.writer.fullTime = 0
	dev := open(t, s, "vms/prod/disk0")
	was := pattern(1, 4096)
	write(t, dev, was, 0, true)
	bad.Store(true)
	if err := <-later(t, dev, pattern(2, 4096), 0, false); !errors.Is(err, bus.ErrFull) && fault.CodeOf(err) != fault.NoSpace {
		t.Errorf("a write that was not logged: %v", err)
	}
	if got := read(t, dev, 0, 4096); !bytes.Equal(got, was) {
		t.Error("it changed the image")
	}
	wantNil(t, at.Bus.RemoveLog(t.Context(), first.log.Name())) // now there is no log at all
	if err := <-later(t, dev, pattern(2, 4096), 0, false); err == nil {
		t.Error("a write was acknowledged by a log that is gone")
	}
	<-dev.Ended()
}

// journal 110: listeners are told of a promotion, with its tag.
func TestPromotionIsTold(t *testing.T) {
	t.Parallel()
	at, s, d, _ := owning(t, 8<<20)
	release(t, s, d, true)
	r := asMaster()
	r.Promote = events.TagPromoted
	mark, err := s.Acquire(t.Context(), r)
	wantNil(t, err)
	sitetest.Eventually(t, "listeners are told", func() bool {
		return slices.ContainsFunc(notes(t, at), func(n events.LifecycleNoted) bool {
			return n.What == events.Opened && n.Detail == string(events.TagPromoted) && n.Mark.Position == mark.Position
		})
	})
}

// notes returns what listeners were told.
func notes(t testing.TB, at *sitetest.Site) []events.LifecycleNoted {
	t.Helper()
	var all []events.LifecycleNoted
	state, err := at.Bus.State(t.Context(), events.StreamLifecycle)
	wantNil(t, err)
	err = at.Bus.ReadTo(t.Context(), events.StreamLifecycle, state.First, state.Last, func(m bus.Message) error {
		fact, err := events.Unmarshal(m.Data)
		if f, ok := fact.(*events.LifecycleNoted); ok {
			all = append(all, *f)
		}
		return err
	})
	wantNil(t, err)
	return all
}

// A log that lost what it had acknowledged is not opened, and listeners are told so.
func TestLostTailIsTold(t *testing.T) {
	t.Parallel()
	at, s, d, _ := owning(t, 8<<20)
	name := d.life.log.Name()
	release(t, s, d, false)
	wantNil(t, at.Bus.RemoveLog(t.Context(), name))
	ctx, cancel := context.WithTimeout(t.Context(), sitetest.Patience)
	defer cancel()
	if _, err := s.Acquire(ctx, asMaster()); err == nil {
		t.Fatal("opened over a log that is gone")
	}
	sitetest.Eventually(t, "listeners are told", func() bool {
		return slices.ContainsFunc(notes(t, at), func(n events.LifecycleNoted) bool { return n.What == events.LostTail })
	})
}
