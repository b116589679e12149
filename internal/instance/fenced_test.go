package instance_test

import (
	"context"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/instance"
)

// say publishes what a notifier would.
func (f *fixture) say(facts ...events.Fact) {
	f.t.Helper()
	for _, fact := range facts {
		if _, err := f.bus.Publish(context.Background(), events.StreamInstances, fact); err != nil {
			f.t.Fatal(err)
		}
	}
}

func added(incarnation string) events.Fact {
	return &events.InstanceAdded{Node: "a", Service: events.ServiceJournal, Incarnation: incarnation}
}

func removed(incarnation, reason string) events.Fact {
	return &events.InstanceRemoved{Node: "a", Service: events.ServiceJournal, Incarnation: incarnation, Reason: reason}
}

// beatOf returns the next heartbeat of another incarnation than the one named.
func (f *fixture) beatOf(other string) *events.Heartbeat {
	f.t.Helper()
	for {
		if b := f.beat(); b.Incarnation != other {
			return b
		}
	}
}

// An incarnation that was taken for dead lets go of all that it may hold, whatever it is in
// the middle of, answers nothing, and comes back under another name, and only after that.
// directories 81, 82.
func TestTakenForDead(t *testing.T) {
	begun, letGo := make(chan string, 8), make(chan struct{})
	h := &holder{during: func(ctx context.Context, operation string) error {
		if operation == "slow" {
			begun <- operation
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}}
	f := start(t, h)
	f.say(added("1"))
	f.ask(acquire("op", "d"))
	f.ask(acquire("op2", "e"))
	release := &events.ReleaseRequested{Assignment: acquire("op3", "e").Assignment}
	f.ask(release)
	inbox, err := f.bus.Conn().SubscribeSync("test.answers")
	if err != nil {
		t.Fatal(err)
	}
	body, err := events.Marshal(acquire("slow", "g"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.bus.Conn().PublishRequest(events.ControlSubject("a", events.ServiceJournal), inbox.Subject, body); err != nil {
		t.Fatal(err)
	}
	<-begun
	h.mu.Lock()
	h.order = nil
	h.during = func(context.Context, string) error { <-letGo; return nil }
	h.mu.Unlock()

	f.say(&events.InstanceRemoved{Node: "b", Service: events.ServiceJournal, Incarnation: "1", Reason: "silent"}) // another's
	f.say(removed("1", "silent"))
	// Released are d and g, which may be held; e was let go of.
	f.eventually(func() bool { return len(h.ran()) == 2 })
	for m, err := f.beats.NextMsg(1500 * time.Millisecond); err == nil; m, err = f.beats.NextMsg(1500 * time.Millisecond) {
		fact, _ := events.Unmarshal(m.Data)
		if b := fact.(*events.Heartbeat); b.Incarnation != "1" || b.Leaving {
			t.Errorf("announced before all was let go of: %+v", b)
		}
	}
	close(letGo)
	again := f.beatOf("1")
	if again.Incarnation == "" || again.Leaving || again.Data != "d1" {
		t.Errorf("it comes back with %+v", again)
	}
	if m, err := inbox.NextMsg(10 * time.Millisecond); err == nil {
		t.Errorf("what was cut short is answered: %q", m.Data)
	}
	// It takes requests under its new name only.
	if ack := f.ask(acquire("op4", "d")).(*events.AcquireAcknowledged); ack.Code != "fenced" || ack.Incarnation != again.Incarnation {
		t.Errorf("to the old name: %+v", ack)
	}
	r := acquire("op5", "d")
	r.Incarnation = again.Incarnation
	if ack := f.ask(r).(*events.AcquireAcknowledged); ack.Code != "" {
		t.Errorf("to the new name: %+v", ack)
	}
}

// Two processes by one name: the older lets go, and waits until the newer is gone; they do not
// end each other in turn.
func TestTwin(t *testing.T) {
	h := &holder{}
	f := start(t, h)
	f.say(added("1"))
	f.ask(acquire("op", "d"))
	f.say(added("twin"))
	f.eventually(func() bool { return len(h.ran()) == 2 })
	for m, err := f.beats.NextMsg(1500 * time.Millisecond); err == nil; m, err = f.beats.NextMsg(1500 * time.Millisecond) {
		fact, _ := events.Unmarshal(m.Data)
		if b := fact.(*events.Heartbeat); b.Incarnation != "1" {
			t.Fatalf("the older ends the newer: %+v", b)
		}
	}
	f.say(removed("twin", "left"))
	if b := f.beatOf("1"); b.Leaving {
		t.Errorf("it comes back with %+v", b)
	}
}

// fenceable is a holder that finds by itself that the log takes its word no more.
type fenceable struct {
	*holder
	fenced chan string
}

func (f fenceable) Fenced() <-chan string { return f.fenced }

// What a directory finds counts like INSTANCES, and only for the incarnation that found it.
func TestToldByADirectory(t *testing.T) {
	h := fenceable{&holder{}, make(chan string, 1)}
	var _ instance.Fenceable = h
	f := start(t, h)
	f.say(added("1"))
	f.ask(acquire("op", "d"))
	h.fenced <- "0"
	f.beat()
	h.fenced <- "1"
	again := f.beatOf("1")
	if got := h.ran(); len(got) != 2 {
		t.Errorf("ran %q", got)
	}
	h.fenced <- "1" // late
	if b := f.beat(); b.Incarnation != again.Incarnation {
		t.Errorf("it was fenced again: %+v", b)
	}
}

// A stop while it lets go ends it; it says no goodbye for an incarnation that is gone.
func TestEndWhileLettingGo(t *testing.T) {
	h := &holder{}
	f := start(t, h)
	f.say(added("1"))
	f.ask(acquire("op", "d"))
	f.say(added("twin"))
	f.eventually(func() bool { return len(h.ran()) == 2 })
	f.stop()
	for m, err := f.beats.NextMsg(50 * time.Millisecond); err == nil; m, err = f.beats.NextMsg(50 * time.Millisecond) {
		fact, _ := events.Unmarshal(m.Data)
		if b := fact.(*events.Heartbeat); b.Leaving || b.Incarnation != "1" {
			t.Errorf("heartbeat %+v", b)
		}
	}
}
