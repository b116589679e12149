package bus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/natsd"
)

const subject = "test.log"

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func start(t testing.TB, dir, listen string) *natsd.Server {
	t.Helper()
	s, err := natsd.Start(t.Context(), natsd.Config{Name: "test", Dir: dir, Listen: listen, Sync: natsd.SyncFiles, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func connect(t testing.TB, cfg bus.Config) *bus.Bus {
	t.Helper()
	cfg.Name, cfg.Log = "test", quiet()
	b, err := bus.Connect(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func inProcess(t testing.TB, s *natsd.Server) *bus.Bus {
	return connect(t, bus.Config{Syncer: s, Options: []nats.Option{s.InProcess()}})
}

// overTCP connects as another process does: it asks the server's own to sync.
func overTCP(t testing.TB, s *natsd.Server) *bus.Bus {
	b := connect(t, bus.Config{URL: s.URL()})
	b.SetSyncer(bus.NewRemoteSyncer(b.Conn()))
	return b
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestConformance runs the suite over both ways to a server.
func TestConformance(t *testing.T) {
	for name, connect := range map[string]func(testing.TB, *natsd.Server) *bus.Bus{"in process": inProcess, "TCP": overTCP} {
		t.Run(name, func(t *testing.T) {
			s := start(t, t.TempDir(), "127.0.0.1:0")
			own := inProcess(t, s)
			stop, err := api.Serve(t.Context(), own.Conn(), quiet(), s.Handlers()...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(stop)
			conform(t, connect(t, s))
		})
	}
}

// conform is what every bus must do.
func conform(t *testing.T, b *bus.Bus) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *bus.Bus)
	}{
		{"append and read", appendAndRead},
		{"fence", fence},
		{"lost answer", lostAnswer},
		{"full", full},
		{"too large", tooLarge},
		{"deleted", deleted},
		{"trimmed", trimmed},
		{"follow goes on", followGoesOn},
		{"follow ends", followEnds},
		{"publish", publish},
		{"fold", fold},
		{"fold of an empty stream", foldEmpty},
		{"watch", watch},
		{"stream settings", streamSettings},
		{"nothing there", nothingThere},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, b) })
	}
}

var logs atomic.Int64

// newLog opens a log of its own for each test.
func newLog(t *testing.T, b *bus.Bus, maxBytes int64) (*bus.Log, string) {
	t.Helper()
	n := logs.Add(1)
	own := fmt.Sprintf("%s.%d", subject, n)
	l, err := b.OpenLog(within(t), events.Stream{Name: fmt.Sprintf("JOURNAL_%d", n), Subjects: []string{own}, MaxBytes: maxBytes})
	if err != nil {
		t.Fatal(err)
	}
	return l, own
}

func text(i uint64) []byte { return fmt.Appendf(nil, "message %d", i) }

// fill appends messages up to a sequence.
func fill(t *testing.T, l *bus.Log, subject string, from, to uint64) {
	t.Helper()
	for i := from; i <= to; i++ {
		if seq, err := l.Append(within(t), subject, text(i), i-1); err != nil || seq != i {
			t.Errorf("append %d: %d, %v", i, seq, err)
			return
		}
	}
}

// expect returns a reader that demands the messages from a sequence on.
func expect(t *testing.T, next uint64) func(bus.Message) error {
	return func(m bus.Message) error {
		if m.Sequence != next || string(m.Data) != string(text(next)) {
			t.Errorf("got message %d %q, want %d", m.Sequence, m.Data, next)
		}
		next++
		return nil
	}
}

func appendAndRead(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 0)
	ctx := within(t)
	fill(t, l, subject, 1, 300)
	if err := l.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.ReadTo(ctx, 1, 300, expect(t, 1)); err != nil {
		t.Error(err)
	}
	if err := l.ReadTo(ctx, 0, 2, expect(t, 1)); err != nil {
		t.Error(err)
	}
	if err := l.ReadTo(ctx, 299, 300, expect(t, 299)); err != nil {
		t.Error(err)
	}
	if err := l.ReadTo(ctx, 301, 300, func(bus.Message) error { return errors.New("called") }); err != nil {
		t.Error(err)
	}
	m, err := l.Get(ctx, 7)
	if err != nil || m.Sequence != 7 || m.Subject != subject || string(m.Data) != string(text(7)) {
		t.Errorf("got %+v, %v", m, err)
	}
	if m, err := b.Last(ctx, l.Name(), subject); err != nil || m.Sequence != 300 {
		t.Errorf("last: %+v, %v", m, err)
	}
	if st, err := l.State(ctx); err != nil || st.First != 1 || st.Last != 300 || st.Bytes == 0 || st.MaxBytes != 0 {
		t.Errorf("state: %+v, %v", st, err)
	}
}

func fence(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 0)
	fill(t, l, subject, 1, 3)
	for last, want := range map[uint64]error{
		0: bus.ErrOvertaken, 1: bus.ErrOvertaken, 2: bus.ErrOvertaken, 4: bus.ErrRolledBack, 100: bus.ErrRolledBack,
	} {
		if seq, err := l.Append(within(t), subject, []byte("of the overtaken writer"), last); !errors.Is(err, want) || seq != 0 {
			t.Errorf("behind %d: %d, %v", last, seq, err)
		}
	}
	if err := l.ReadTo(within(t), 1, 3, expect(t, 1)); err != nil {
		t.Error(err)
	}
	fill(t, l, subject, 4, 4)
}

// lostAnswer: a message that was stored already is the one that was to be stored.
func lostAnswer(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 0)
	fill(t, l, subject, 1, 5)
	for _, last := range []uint64{4, 2, 0} {
		if seq, err := l.Append(within(t), subject, text(last+1), last); err != nil || seq != last+1 {
			t.Errorf("again behind %d: %d, %v", last, seq, err)
		}
	}
	if st, err := l.State(within(t)); err != nil || st.Last != 5 {
		t.Errorf("stored again: %+v, %v", st, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ended, subject, text(6), 5); !errors.Is(err, bus.ErrUndecided) {
		t.Errorf("of a caller that is gone: %v", err)
	}
}

func full(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 64<<10)
	data := make([]byte, 10<<10)
	last := uint64(0)
	for {
		data[0] = byte(last)
		seq, err := l.Append(within(t), subject, data, last)
		if errors.Is(err, bus.ErrFull) {
			break
		}
		if err != nil || last > 10 {
			t.Fatalf("append %d: %v", last+1, err)
		}
		last = seq
	}
	if st, err := l.State(within(t)); err != nil || st.Last != last || st.First != 1 || st.MaxBytes != 64<<10 {
		t.Errorf("what was there is not untouched: %+v, %v", st, err)
	}
	if _, err := l.Append(within(t), subject, data, last-1); !errors.Is(err, bus.ErrOvertaken) && !errors.Is(err, bus.ErrFull) {
		t.Errorf("an overtaken writer of a full log: %v", err)
	}
	if err := l.Trim(within(t), 3); err != nil {
		t.Fatal(err)
	}
	if seq, err := l.Append(within(t), subject, data, last); err != nil || seq != last+1 {
		t.Errorf("after a purge: %d, %v", seq, err)
	}
}

func tooLarge(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 0)
	if _, err := l.Append(within(t), subject, make([]byte, 3<<20), 0); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("got %v", err)
	}
	fill(t, l, subject, 1, 1)
}

func deleted(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 0)
	fill(t, l, subject, 1, 1)
	for range 2 {
		if err := b.RemoveLog(within(t), l.Name()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Append(within(t), subject, text(2), 1); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("append: %v", err)
	}
	if _, err := b.ExistingLog(within(t), l.Name()); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("open: %v", err)
	}
}

func trimmed(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 0)
	fill(t, l, subject, 1, 20)
	if err := l.Trim(within(t), 11); err != nil {
		t.Fatal(err)
	}
	for _, from := range []uint64{1, 10} {
		err := l.ReadTo(within(t), from, 20, func(m bus.Message) error { return fmt.Errorf("given message %d", m.Sequence) })
		var gap *bus.GapError
		if !errors.Is(err, bus.ErrGap) || !errors.As(err, &gap) || gap.Want != from || gap.Got != 11 {
			t.Errorf("from %d: %v", from, err)
		}
	}
	if err := l.ReadTo(within(t), 11, 20, expect(t, 11)); err != nil {
		t.Error(err)
	}
	if _, err := l.Get(within(t), 10); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("a trimmed message: %v", err)
	}
	// All of it: the sequence goes on, and what is asked for is said to be missing.
	if err := l.Trim(within(t), 21); err != nil {
		t.Fatal(err)
	}
	if err := l.ReadTo(within(t), 15, 20, expect(t, 0)); !errors.Is(err, bus.ErrGap) {
		t.Errorf("a log that was emptied: %v", err)
	}
	fill(t, l, subject, 21, 22)
	if err := l.ReadTo(within(t), 21, 22, expect(t, 21)); err != nil {
		t.Error(err)
	}
}

var errEnough = errors.New("enough")

// followGoesOn reads what is there, what comes meanwhile, and from the middle again.
func followGoesOn(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 0)
	fill(t, l, subject, 1, 50)
	var writers sync.WaitGroup
	defer writers.Wait()
	check := expect(t, 1)
	err := l.Follow(within(t), 1, func(m bus.Message) error {
		if m.Sequence == 50 {
			writers.Go(func() { fill(t, l, subject, 51, 100) })
		}
		if err := check(m); err != nil || m.Sequence < 100 {
			return err
		}
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	check = expect(t, 99)
	err = l.Follow(within(t), 99, func(m bus.Message) error {
		if m.Sequence == 100 {
			writers.Wait()
			writers.Go(func() { fill(t, l, subject, 101, 101) })
		}
		if err := check(m); err != nil || m.Sequence < 101 {
			return err
		}
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
}

func followEnds(t *testing.T, b *bus.Bus) {
	l, subject := newLog(t, b, 0)
	fill(t, l, subject, 1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := l.Follow(ctx, 1, func(bus.Message) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := b.Follow(within(t), "NONE", 1, nil); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("no stream: %v", err)
	}
}

// control makes the streams of a site, each empty.
func control(t *testing.T, b *bus.Bus) {
	t.Helper()
	for _, s := range events.SiteStreams() {
		if err := b.RemoveLog(within(t), s.Name); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := b.EnsureStreams(within(t), events.SiteStreams()); err != nil {
			t.Fatal(err)
		}
	}
}

func publish(t *testing.T, b *bus.Bus) {
	control(t, b)
	ctx := within(t)
	pool := &events.PoolCreated{Pool: "vms", At: 1}
	if seq, err := b.Publish(ctx, events.StreamPools, pool); err != nil || seq != 1 {
		t.Fatalf("%d, %v", seq, err)
	}
	if seq, err := b.PublishAfter(ctx, events.StreamPools, 1, pool); err != nil || seq != 2 {
		t.Errorf("after 1: %d, %v", seq, err)
	}
	for _, last := range []uint64{0, 1, 3} {
		if _, err := b.PublishAfter(ctx, events.StreamPools, last, pool); !errors.Is(err, bus.ErrOvertaken) {
			t.Errorf("after %d: %v", last, err)
		}
	}
	if _, err := b.Publish(ctx, events.StreamDirectories, pool); err == nil {
		t.Error("stored by a stream of another subject")
	}
	sub, err := b.Conn().SubscribeSync("tidemark.heartbeat.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Send(&events.Heartbeat{Node: "n", Service: "s"}); err != nil {
		t.Fatal(err)
	}
	if m, err := sub.NextMsgWithContext(ctx); err != nil || m.Subject != "tidemark.heartbeat.n.s" {
		t.Errorf("sent: %v, %v", m, err)
	}
}

func fold(t *testing.T, b *bus.Bus) {
	control(t, b)
	for i := range 3 {
		if _, err := b.Publish(within(t), events.StreamPools, &events.PoolCreated{Pool: fmt.Sprint("p", i)}); err != nil {
			t.Fatal(err)
		}
	}
	var seen []string
	err := b.Fold(within(t), events.StreamPools, func() {
		seen = append(seen, "caught up")
		if _, err := b.Publish(within(t), events.StreamPools, &events.PoolCreated{Pool: "later"}); err != nil {
			t.Error(err)
		}
	}, func(seq uint64, f events.Fact) error {
		seen = append(seen, fmt.Sprint(seq, f.(*events.PoolCreated).Pool))
		if len(seen) == 5 {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"1p0", "2p1", "3p2", "caught up", "4later"}, seen); diff != "" {
		t.Error(diff)
	}
	if _, err := b.Conn().Request("tidemark.pool.rotten", []byte("no fact"), time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Publish(within(t), events.StreamPools, &events.PoolCreated{Pool: "after"}); err != nil {
		t.Fatal(err)
	}
	seen = nil
	err = b.Fold(within(t), events.StreamPools, func() { seen = append(seen, "caught up") }, func(seq uint64, f events.Fact) error {
		seen = append(seen, fmt.Sprint(seq, f.(*events.PoolCreated).Pool))
		if seq == 6 {
			return errEnough
		}
		return nil
	})
	if diff := cmp.Diff([]string{"1p0", "2p1", "3p2", "4later", "6after"}, seen); !errors.Is(err, errEnough) || diff != "" {
		t.Errorf("a message that is no fact is passed over: %v\n%s", err, diff)
	}
}

func foldEmpty(t *testing.T, b *bus.Bus) {
	control(t, b)
	if st, err := b.State(within(t), events.StreamPools); err != nil || st.First != 1 || st.Last != 0 {
		t.Errorf("state: %+v, %v", st, err)
	}
	calls := 0
	err := b.Fold(within(t), events.StreamPools, func() {
		calls++
		for range 2 {
			if _, err := b.Publish(within(t), events.StreamPools, &events.PoolCreated{Pool: "p"}); err != nil {
				t.Error(err)
			}
		}
	}, func(seq uint64, _ events.Fact) error {
		if seq == 2 {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) || calls != 1 {
		t.Errorf("caught up %d times, %v", calls, err)
	}
}

// watch: the stream of positions keeps one message of each subject, so its sequences
// have holes.
func watch(t *testing.T, b *bus.Bus) {
	control(t, b)
	commit := func(client string, entry uint32) {
		t.Helper()
		_, err := b.Publish(within(t), events.StreamPositions, &events.PositionCommitted{
			Directory: "d", Client: client, Mark: events.Mark{Position: events.At(1, entry)},
		})
		if err != nil {
			t.Error(err)
		}
	}
	for i := range uint32(5) {
		commit("a", i)
		commit("b", i)
	}
	commit("c", 1)
	commit("a", 9)
	var writers sync.WaitGroup
	defer writers.Wait()
	seen := map[string]events.Position{}
	caughtUp := 0
	err := b.Watch(within(t), events.StreamPositions, "tidemark.position.d.*", func() {
		caughtUp++
		if len(seen) != 3 {
			t.Errorf("caught up with %v", seen)
		}
	}, func(f events.Fact) error {
		c := f.(*events.PositionCommitted)
		seen[c.Client] = c.Mark.Position
		if c.Client == "a" && c.Mark.Position == events.At(1, 9) {
			writers.Go(func() { commit("b", 10) })
		}
		if seen["b"] == events.At(1, 10) {
			return errEnough
		}
		return nil
	})
	want := map[string]events.Position{"a": events.At(1, 9), "b": events.At(1, 10), "c": events.At(1, 1)}
	if diff := cmp.Diff(want, seen); diff != "" || !errors.Is(err, errEnough) || caughtUp != 1 {
		t.Errorf("%v, caught up %d times\n%s", err, caughtUp, diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = b.Watch(ctx, events.StreamPositions, "tidemark.position.>", func() {}, func(events.Fact) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("of a caller that is gone: %v", err)
	}
}

func streamSettings(t *testing.T, b *bus.Bus) {
	control(t, b)
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range events.SiteStreams() {
		s, err := js.Stream(within(t), want.Name)
		if err != nil {
			t.Fatal(err)
		}
		got := s.CachedInfo().Config
		discard, each := jetstream.DiscardNew, int64(-1)
		if want.Rolling {
			discard = jetstream.DiscardOld
		}
		if want.LastPerSubject {
			each = 1
		}
		if got.Discard != discard || got.MaxMsgsPerSubject != each || got.MaxBytes != want.MaxBytes || !got.DenyDelete ||
			got.Storage != jetstream.FileStorage || got.Retention != jetstream.LimitsPolicy || got.MaxAge != 0 || !got.AllowDirect {
			t.Errorf("%s: %+v", want.Name, got)
		}
	}
	if _, err := b.Publish(within(t), events.StreamPools, &events.PoolCreated{Pool: "p"}); err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(within(t), events.StreamPools)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(within(t), 1); err == nil {
		t.Error("a message was deleted")
	}
}

func nothingThere(t *testing.T, b *bus.Bus) {
	control(t, b)
	if _, err := b.State(within(t), "NONE"); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("state of no stream: %v", err)
	}
	if _, err := b.Last(within(t), "NONE", "x"); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("last of no stream: %v", err)
	}
	if _, err := b.Last(within(t), events.StreamPools, "tidemark.pool.none"); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("last of no subject: %v", err)
	}
	names, err := b.Streams(within(t))
	if err != nil || len(names) < len(events.SiteStreams()) {
		t.Errorf("streams: %v, %v", names, err)
	}
}
