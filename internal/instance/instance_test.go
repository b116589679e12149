package instance_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/sitetest"
)

func TestAnswers(t *testing.T) {
	h := &holder{}
	f := start(t, h)
	r := acquire("op1", "d")
	ack := f.ask(r).(*events.AcquireAcknowledged)
	if ack.Assignment != r.Assignment || ack.Code != "" || ack.Mark.Position != events.At(2, 7) {
		t.Errorf("got %+v", ack)
	}
	release := &events.ReleaseRequested{Assignment: r.Assignment}
	release.Operation = "op2"
	if ack := f.ask(release).(*events.ReleaseAcknowledged); ack.Assignment != release.Assignment || !ack.Quiesced || ack.Mark.Position != events.At(2, 9) {
		t.Errorf("got %+v", ack)
	}
	h.mu.Lock()
	h.during = func(context.Context, string) error { return fault.New(fault.SplitBrain, "two histories") }
	h.mu.Unlock()
	if ack := f.ask(acquire("op3", "d")).(*events.AcquireAcknowledged); ack.Code != "split_brain" || ack.Message != "two histories" {
		t.Errorf("got %+v", ack)
	}
	release.Operation = "op4"
	if ack := f.ask(release).(*events.ReleaseAcknowledged); ack.Code != "split_brain" || ack.Quiesced {
		t.Errorf("got %+v", ack)
	}
	// Answered lately: the same answer, not another run. directories 132.
	if ack := f.ask(acquire("op3", "d")).(*events.AcquireAcknowledged); ack.Code != "split_brain" {
		t.Errorf("got %+v", ack)
	}
	if got, want := h.ran(), []string{"op1", "op2", "op3", "op4"}; !slices.Equal(got, want) {
		t.Errorf("ran %q, want %q", got, want)
	}
}

// A duplicate of what still runs waits for the one answer.
func TestDuplicateWaits(t *testing.T) {
	hang := make(chan struct{})
	h := &holder{during: func(context.Context, string) error { <-hang; return nil }}
	f := start(t, h)
	acks := make(chan events.Fact, 3)
	for range 3 {
		go func() { acks <- f.ask(acquire("op", "d")) }()
	}
	f.eventually(func() bool { return len(h.ran()) == 1 })
	close(hang)
	for range 3 {
		if ack := (<-acks).(*events.AcquireAcknowledged); ack.Code != "" || ack.Operation != "op" {
			t.Errorf("got %+v", ack)
		}
	}
	if got := h.ran(); len(got) != 1 {
		t.Errorf("ran %q", got)
	}
}

// One directory: in order. Many: side by side, but not without bound. directories 74, 91.
func TestOrder(t *testing.T) {
	release := make(chan struct{})
	h := &holder{during: func(_ context.Context, operation string) error {
		if operation == "first" || operation[0] == 'x' {
			<-release
		}
		return nil
	}}
	f := start(t, h)
	inbox, err := f.bus.Conn().SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	send := func(operation, directory string) {
		body, err := events.Marshal(acquire(operation, directory))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.bus.Conn().PublishRequest(events.ControlSubject("a", events.ServiceJournal), inbox.Subject, body); err != nil {
			t.Fatal(err)
		}
	}
	send("first", "d")
	for i := range 10 {
		send(fmt.Sprint("then", i), "d")
	}
	send("other", "e")
	f.eventually(func() bool { return slices.Contains(h.ran(), "other") })
	if got := h.ran(); slices.Contains(got, "then0") {
		t.Errorf("ran %q while the first still runs", got)
	}
	for i := range 100 {
		send(fmt.Sprint("x", i), fmt.Sprint("many", i))
	}
	f.eventually(func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.running >= 32 })
	close(release)
	for range 112 {
		if _, err := inbox.NextMsg(patience); err != nil {
			t.Fatal(err)
		}
	}
	var then []string
	for _, o := range h.ran() {
		if o[0] == 't' {
			then = append(then, o)
		}
	}
	if !slices.IsSorted(then) || len(then) != 10 {
		t.Errorf("one directory's operations ran as %q", then)
	}
	if h.most > 32 {
		t.Errorf("%d ran at a time", h.most)
	}
}

// directories 134.
func TestRefusals(t *testing.T) {
	h := &holder{}
	f := start(t, h)
	other := acquire("op", "d")
	other.Incarnation = "0"
	ack := f.ask(other).(*events.AcquireAcknowledged)
	if ack.Code != "fenced" || ack.Incarnation != "1" || ack.Operation != "op" {
		t.Errorf("another incarnation: %+v", ack)
	}
	for _, change := range []func(*events.AcquireRequested){
		func(r *events.AcquireRequested) { r.Operation = "" },
		func(r *events.AcquireRequested) { r.Directory = "" },
		func(r *events.AcquireRequested) { r.Node = "b" },
		func(r *events.AcquireRequested) { r.Role = events.Slave },
	} {
		bad := acquire("op", "d")
		change(bad)
		if ack := f.ask(bad).(*events.AcquireAcknowledged); ack.Code != "usage" {
			t.Errorf("%+v: %+v", bad, ack)
		}
	}
	for _, body := range []string{"", "garbage", "\x93\x01\xa3odd\x80", "\xdd\xff\xff\xff\xff", "\x93\x01\xb1acquire_requested\xc0"} {
		if ack := f.send([]byte(body)).(*events.AcquireAcknowledged); ack.Code != "usage" {
			t.Errorf("%q: %+v", body, ack)
		}
	}
	if ack := f.ask(&events.PoolCreated{Pool: "p"}).(*events.AcquireAcknowledged); ack.Code != "usage" {
		t.Errorf("a fact that asks for nothing: %+v", ack)
	}
	if got := h.ran(); len(got) != 0 {
		t.Errorf("ran %q", got)
	}
	if ack := f.ask(acquire("op", "d")).(*events.AcquireAcknowledged); ack.Code != "" {
		t.Errorf("afterwards: %+v", ack)
	}
}

func TestHeartbeats(t *testing.T) {
	f := start(t, &holder{})
	if b := f.beat(); b.Leaving || b.Node != "a" || b.Service != events.ServiceJournal || b.Incarnation != "1" || b.Data != "d1" || b.At == 0 {
		t.Errorf("heartbeat %+v", b)
	}
	before := time.Now()
	if err := f.bus.Conn().Publish(events.RollCallSubject, nil); err != nil {
		t.Fatal(err)
	}
	f.beat()
	sitetest.Prompt(t, "the answer to a roll call", before, time.Second)
	f.stop()
	for b := f.beat(); !b.Leaving; b = f.beat() {
	}
	if m, err := f.beats.NextMsg(50 * time.Millisecond); err == nil {
		t.Errorf("after the last heartbeat: %q", m.Data)
	}
}

// The end cuts operations short, waits for them, and answers nothing in their place.
// directories 136.
func TestEnd(t *testing.T) {
	ended := make(chan struct{})
	h := &holder{during: func(ctx context.Context, operation string) error {
		<-ctx.Done()
		if operation == "op" {
			close(ended)
		}
		return ctx.Err()
	}}
	f := start(t, h)
	inbox, err := f.bus.Conn().SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	for _, operation := range []string{"op", "op", "behind"} {
		body, err := events.Marshal(acquire(operation, "d"))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.bus.Conn().PublishRequest(events.ControlSubject("a", events.ServiceJournal), inbox.Subject, body); err != nil {
			t.Fatal(err)
		}
	}
	f.eventually(func() bool { return len(h.ran()) == 1 })
	f.stop()
	select {
	case <-ended:
	default:
		t.Error("the agent ended before its operation")
	}
	if m, err := inbox.NextMsg(50 * time.Millisecond); err == nil {
		t.Errorf("answered %q", m.Data)
	}
	if got := h.ran(); len(got) != 1 {
		t.Errorf("ran %q", got)
	}
}

// closing is a holder whose directories end with the agent, once they are let.
type closing struct {
	*holder
	began, closed chan struct{}
}

func (c closing) AwaitClosed() {
	close(c.began)
	<-c.closed
}

// Who closes its directories has not left: it beats until that is done, and is fenced by
// nobody in the middle of it.
func TestLeavesWhenAllIsClosed(t *testing.T) {
	c := closing{&holder{}, make(chan struct{}), make(chan struct{})}
	f := start(t, c)
	stopped := make(chan struct{})
	go func() { f.stop(); close(stopped) }()
	select {
	case <-c.began:
	case <-stopped:
		t.Fatal("it has ended, and waited for nothing")
	}
	for range 3 {
		if b := f.beat(); b.Leaving {
			t.Fatal("it has left while its directories are open")
		}
	}
	close(c.closed)
	<-stopped
	for b := f.beat(); !b.Leaving; b = f.beat() {
	}
}
