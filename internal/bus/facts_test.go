package bus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"tidemark/events"
	"tidemark/internal/bus"
)

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

// publishAll: in order, and nothing behind one that was refused.
func publishAll(t *testing.T, b *bus.Bus) {
	control(t, b)
	ctx := within(t)
	pools := make([]events.Fact, 500)
	for i := range pools {
		pools[i] = &events.PoolCreated{Pool: fmt.Sprintf("p%d", i), At: 1}
	}
	if n, err := b.PublishAll(ctx, events.StreamPools, 0, pools); err != nil || n != len(pools) {
		t.Fatalf("%d, %v", n, err)
	}
	next := 0
	err := b.ReadTo(ctx, events.StreamPools, 1, uint64(len(pools)), func(m bus.Message) error {
		f, err := events.Unmarshal(m.Data)
		if err == nil && f.(*events.PoolCreated).Pool != fmt.Sprintf("p%d", next) {
			t.Errorf("message %d is %+v", m.Sequence, f)
		}
		next++
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for _, last := range []uint64{0, 499, 501} {
		if n, err := b.PublishAll(ctx, events.StreamPools, last, pools); n != 0 || !errors.Is(err, bus.ErrOvertaken) {
			t.Errorf("after %d: %d, %v", last, n, err)
		}
	}
	elsewhere := []events.Fact{pools[0], &events.DirectoryForgotten{Directory: "d", Pool: "p"}, pools[1]}
	if n, err := b.PublishAll(ctx, events.StreamPools, 500, elsewhere); n != 1 || err == nil {
		t.Errorf("one of another stream among them: %d, %v", n, err)
	}
	if state, err := b.State(ctx, events.StreamPools); err != nil || state.Last != 501 {
		t.Errorf("%+v, %v", state, err)
	}
	if n, err := b.PublishAll(ctx, events.StreamPools, 501, nil); n != 0 || err != nil {
		t.Errorf("nothing: %d, %v", n, err)
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
	other := &events.PoolCreated{Pool: "other", At: 1}
	if seq, err := b.PublishOver(ctx, events.StreamPools, 0, other); err != nil || seq != 3 {
		t.Errorf("over nothing: %d, %v", seq, err)
	}
	if seq, err := b.PublishOver(ctx, events.StreamPools, 2, pool); err != nil || seq != 4 {
		t.Errorf("over 2: %d, %v", seq, err)
	}
	for _, last := range []uint64{0, 2, 3} {
		if _, err := b.PublishOver(ctx, events.StreamPools, last, pool); !errors.Is(err, bus.ErrOvertaken) {
			t.Errorf("over %d: %v", last, err)
		}
	}
	publishWhile(t, b)
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

// publishWhile follows upon pool "other" as message 3 of 4.
func publishWhile(t *testing.T, b *bus.Bus) {
	t.Helper()
	ctx, third := within(t), &events.PoolCreated{Pool: "third", At: 1}
	for _, c := range []struct {
		subject string
		last    uint64
		stored  uint64 // 0: it is refused
	}{
		{"tidemark.pool.other.pool_created", 3, 5},
		{"tidemark.pool.other.pool_created", 0, 0},
		{"tidemark.pool.other.pool_created", 4, 0},
		{"tidemark.pool.none.pool_created", 0, 6},
		{"tidemark.pool.none.pool_created", 1, 0},
	} {
		seq, err := b.PublishWhile(ctx, events.StreamPools, c.subject, c.last, third)
		if seq != c.stored || errors.Is(err, bus.ErrOvertaken) != (c.stored == 0) || c.stored > 0 && err != nil {
			t.Errorf("while %s ends with %d: %d, %v", c.subject, c.last, seq, err)
		}
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
	if _, err := b.Conn().Request("tidemark.pool.rotten", []byte("no fact"), time.Minute); err != nil {
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
	caughtUp, last := 0, uint64(9) // of ten, the last of each client is left
	err := b.Watch(within(t), events.StreamPositions, "tidemark.position.d.*", func() {
		caughtUp++
		if len(seen) != 3 {
			t.Errorf("caught up with %v", seen)
		}
	}, func(seq uint64, f events.Fact) error {
		if seq <= last {
			t.Errorf("message %d after message %d", seq, last)
		}
		last = seq
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
	err = b.Watch(ctx, events.StreamPositions, "tidemark.position.>", func() {}, func(uint64, events.Fact) error { return nil })
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
