package notifier_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tidemark/events"
)

// directories 80, 89, 92.
func TestLiveness(t *testing.T) {
	f := newFixture(t)
	rolls, err := f.bus.Conn().SubscribeSync(events.RollCallSubject)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.bus.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	s, stop := f.start()
	if _, err := rolls.NextMsg(patience); err != nil {
		t.Errorf("no roll call: %v", err)
	}
	stopBeats := f.beats("a", "1")
	f.beats("b", "1")
	f.eventually("both are added", func() bool { return len(f.instances()) == 2 && len(s.Report().Instances) == 2 })
	stopBeats()
	f.eventually("a is silent", func() bool { return slices.Contains(f.instances(), "-a1 silent") })
	f.beat("a", "2", false)
	f.eventually("a is back", func() bool { return slices.Contains(f.instances(), "+a2") })
	f.beat("a", "2", true)
	f.eventually("a has left", func() bool { return slices.Contains(f.instances(), "-a2 left") })
	if r := s.Report().Instances; len(r) != 1 || r[0].Node != "b" {
		t.Errorf("alive: %+v", r)
	}
	// A restart knows b, and says nothing new about it.
	before := f.instances()
	stop()
	f.start()
	f.beat("c", "1", false)
	f.eventually("c is added", func() bool { return slices.Contains(f.instances(), "+c1") })
	if got := f.instances(); !slices.Equal(got, append(before, "+c1")) {
		t.Errorf("after a restart: %q, before %q", got, before)
	}
}

// Heartbeats that make no sense change nothing.
func TestImplausibleHeartbeats(t *testing.T) {
	f := newFixture(t)
	f.start()
	body, err := events.Marshal(&events.Heartbeat{Node: "a", Service: "journal", Incarnation: "1"})
	if err != nil {
		t.Fatal(err)
	}
	for subject, body := range map[string][]byte{
		"tidemark.heartbeat.b.journal": body, // of another
		"tidemark.heartbeat.c.journal": []byte("garbage"),
		"tidemark.heartbeat.d.journal": nil,
	} {
		if err := f.bus.Conn().Publish(subject, body); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []*events.Heartbeat{
		{Node: "..", Service: "journal", Incarnation: "1"}, {Node: "a", Service: "a/b", Incarnation: "1"}, {Node: "a", Service: "journal"},
	} {
		if err := f.bus.Send(bad); err != nil {
			t.Fatal(err)
		}
	}
	f.beat("z", "1", false)
	f.eventually("the good one is heard", func() bool { return len(f.instances()) > 0 })
	if got := f.instances(); !slices.Equal(got, []string{"+z1"}) {
		t.Errorf("got %q", got)
	}
}

// In order within a directory, side by side otherwise. directories 74, 118.
func TestDelivery(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.beats("a", "1")
	f.listen(func(n int, fact events.Fact) []byte {
		if a, ok := fact.(*events.AcquireRequested); ok && a.Operation == "d1" {
			return nil
		}
		return success(n, fact)
	})
	f.eventually("a is added", func() bool { return len(f.instances()) == 1 })
	f.publish(events.StreamNotifications, acquire("d1", "d", "1"), release("d2", "d", "1"), acquire("e1", "e", "1"), release("e2", "e", "1"))
	f.eventually("e is served", func() bool { return slices.Equal(f.acks(), []string{"e1:", "e2::true"}) })
	f.publish(events.StreamInstances, &events.InstanceRemoved{Node: "a", Service: events.ServiceJournal, Incarnation: "1", Reason: "silent"})
	f.eventually("d1 is given up", func() bool { return slices.Contains(f.acks(), "d1:fenced") })
	f.eventually("d2 is answered", func() bool { return len(f.acks()) == 4 })
}

// Silence, garbage and foreign answers are no answers: the same operation is sent again.
// directories 132, 134.
func TestRetries(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.beats("a", "1")
	f.eventually("a is added", func() bool { return len(f.instances()) == 1 })
	f.publish(events.StreamNotifications, acquire("op", "d", "1")) // nobody listens yet
	d := f.listen(func(n int, fact events.Fact) []byte {
		switch n {
		case 1:
			return []byte("garbage")
		case 2:
			return success(n, acquire("op", "d", "0")) // the agent of another incarnation
		case 3:
			return success(n, release("op", "d", "1"))
		}
		return success(n, fact)
	})
	f.eventually("it is acknowledged", func() bool { return slices.Equal(f.acks(), []string{"op:"}) })
	if got := d.log(); !slices.Equal(got, []string{"op", "op", "op", "op"}) {
		t.Errorf("asked %q", got)
	}
	// Listeners were told of the first and the second of the three, and of one in the log
	// that came too late.
	f.publish(events.StreamNotifications, &events.AcquireAcknowledged{Assignment: acquire("op", "d", "1").Assignment, Code: "internal"})
	f.eventually("rejected answers are told of", func() bool {
		var rejected []string
		for _, fact := range f.facts(events.StreamLifecycle) {
			if turn, ok := fact.(*events.LifecycleNoted); ok && turn.What == events.AcknowledgementRejected {
				rejected = append(rejected, turn.Detail)
			}
		}
		return len(rejected) == 3 && strings.Contains(rejected[0], "answer 1") && strings.Contains(rejected[1], "answer 2") &&
			strings.Contains(rejected[2], "answered already")
	})
	if got := f.acks(); !slices.Equal(got, []string{"op:", "op:internal"}) {
		t.Errorf("acknowledged %q", got)
	}
}

// Nobody is asked who is gone: the notifier answers. directories 100, 108.
func TestGone(t *testing.T) {
	f := newFixture(t)
	d := f.listen(success)
	f.publish(events.StreamInstances, &events.InstanceAdded{Node: "a", Service: events.ServiceJournal, Incarnation: "2"})
	f.publish(events.StreamNotifications, acquire("old", "d", "1"), release("older", "d", "0"), acquire("new", "d", "2"))
	f.publish(events.StreamNotifications, &events.AcquireRequested{Assignment: events.Assignment{Operation: "x", Directory: "e", Node: "unknown", Role: events.Slave}})
	s, _ := f.start()
	f.eventually("all are answered", func() bool { return len(f.acks()) == 4 && len(s.Report().Waiting) == 0 })
	got := f.acks()
	slices.Sort(got)
	if want := []string{"new:", "old:fenced", "older:fenced:false", "x:fenced"}; !slices.Equal(got, want) {
		t.Errorf("acknowledged %q, want %q", got, want)
	}
	if got := d.log(); !slices.Equal(got, []string{"new"}) {
		t.Errorf("asked %q", got)
	}
}

// A restart sends what is not acknowledged, and nothing else. directories 131.
func TestRestart(t *testing.T) {
	f := newFixture(t)
	d := f.listen(func(n int, fact events.Fact) []byte {
		if a, ok := fact.(*events.AcquireRequested); ok && a.Operation == "slow" && n <= 2 {
			return nil
		}
		return success(n, fact)
	})
	f.beats("a", "1")
	_, stop := f.start()
	f.eventually("a is added", func() bool { return len(f.instances()) == 1 })
	f.publish(events.StreamNotifications, acquire("quick", "d", "1"))
	f.eventually("the quick one is done", func() bool { return len(f.acks()) == 1 })
	f.publish(events.StreamNotifications, acquire("slow", "e", "1"))
	f.eventually("the slow one is asked", func() bool { return len(d.log()) == 2 })
	stop()
	f.start()
	f.eventually("the slow one is done", func() bool { return len(f.acks()) == 2 })
	if got := d.log(); !slices.Equal(got, []string{"quick", "slow", "slow"}) {
		t.Errorf("asked %q", got)
	}
}

// Two notifiers: each request is acknowledged once, each instance added once.
func TestTwoNotifiers(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.start()
	f.listen(success)
	f.beats("a", "1")
	stopBeats := f.beats("b", "1")
	f.eventually("both are added", func() bool { return len(f.instances()) >= 2 })
	const requests = 30
	for i := range requests {
		f.publish(events.StreamNotifications, acquire(fmt.Sprint(i), fmt.Sprint("d", i%7), "1"))
	}
	f.eventually("all are acknowledged", func() bool { return len(f.acks()) >= requests })
	stopBeats() // who leaves says nothing after that
	f.beat("b", "1", true)
	f.eventually("b has left", func() bool { return slices.Contains(f.instances(), "-b1 left") })
	acks := f.acks()
	slices.Sort(acks)
	if len(slices.Compact(acks)) != requests || len(f.acks()) != requests {
		t.Errorf("%d acknowledgements for %d requests", len(f.acks()), requests)
	}
	added := 0
	for _, i := range f.instances() {
		if i == "+a1" {
			added++
		}
	}
	if added != 1 {
		t.Errorf("a was added %d times: %q", added, f.instances())
	}
}
