package notifier

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/events"
)

// ear is a roster with the log that its facts go to. Time is seconds since the start.
type ear struct {
	state  *State
	roster *Roster
	start  time.Time
	seq    uint64
}

func newEar() *ear {
	start := time.Unix(1000, 0)
	return &ear{state: NewState(), roster: NewRoster(10*time.Second, start), start: start}
}

func (e *ear) at(seconds float64) time.Time {
	return e.start.Add(time.Duration(seconds * float64(time.Second)))
}

func (e *ear) hear(seconds float64, incarnation string, leaving bool) {
	e.roster.Heard(e.state, &events.Heartbeat{Node: "a", Service: "journal", Incarnation: incarnation, Leaving: leaving}, e.at(seconds))
}

// tick decides and folds, and returns the facts in short.
func (e *ear) tick(seconds float64) string {
	var short []string
	for _, f := range e.roster.Decide(e.state, e.at(seconds)) {
		e.seq++
		e.state.Evolve(e.seq, f)
		switch f := f.(type) {
		case *events.InstanceAdded:
			short = append(short, "+"+f.Incarnation)
		case *events.InstanceRemoved:
			short = append(short, "-"+f.Incarnation+" "+f.Reason)
		}
	}
	return strings.Join(short, ", ")
}

func (e *ear) expect(t *testing.T, seconds float64, want string) {
	t.Helper()
	if got := e.tick(seconds); got != want {
		t.Errorf("at %v s: %q, want %q", seconds, got, want)
	}
}

// ticks lets time pass as it does: in small steps.
func (e *ear) ticks(t *testing.T, from, to float64) {
	t.Helper()
	for s := from; s <= to; s += 0.5 {
		e.expect(t, s, "")
	}
}

// directories 89. An incarnation that was taken for dead, or that another one took the place
// of, never comes back, however much it beats.
func TestComeAndGo(t *testing.T) {
	e := newEar()
	e.expect(t, 0, "")
	e.hear(1, "1", false)
	e.expect(t, 1, "+1")
	e.ticks(t, 1.5, 11)
	e.expect(t, 11.5, "-1 silent")
	e.ticks(t, 12, 15)
	e.hear(15, "1", false) // it was only slow: its agent will come back with another
	e.expect(t, 15, "")
	e.hear(16, "2", false)
	e.expect(t, 16, "+2")
	e.hear(16.5, "3", false)
	e.expect(t, 16.5, "+3")
	e.hear(17, "2", false) // late, or a second process of the same name
	e.expect(t, 17, "")
	e.hear(18, "3", true)
	e.expect(t, 18, "-3 left")
	for at := 18.5; at < 40; at += 0.5 {
		e.hear(at, "1", false)
		e.hear(at, "2", false)
		e.hear(at, "3", false)
		e.expect(t, at, "")
	}
	e.hear(40, "4", false)
	e.hear(40, "4", true) // came and went between two ticks
	e.expect(t, 40, "")
	if n := len(e.roster.heard); n != 0 {
		t.Errorf("%d instances are remembered for nothing", n)
	}
}

// directories 89: with a silence of 30 s, 29 s are none, nor are 30; more is, once.
func TestSilenceThreshold(t *testing.T) {
	e := newEar()
	e.roster = NewRoster(30*time.Second, e.at(0))
	e.hear(0, "1", false)
	e.expect(t, 0, "+1")
	e.ticks(t, 0.5, 29)
	e.hear(29, "1", false)
	e.ticks(t, 29.5, 59)
	e.expect(t, 59.5, "-1 silent")
	e.ticks(t, 60, 120)
}

// directories 91: who hangs delays nobody else's detection.
func TestSilenceOfOneOfMany(t *testing.T) {
	e := newEar()
	hear := func(at float64, node string) {
		e.roster.Heard(e.state, &events.Heartbeat{Node: node, Service: "journal", Incarnation: node}, e.at(at))
	}
	hear(0, "a")
	hear(0, "b")
	e.expect(t, 0, "+a, +b")
	hear(3, "b")
	for at := 0.5; at <= 10; at += 0.5 {
		hear(at, "c")
		if got := e.tick(at); got != "" && got != "+c" {
			t.Errorf("at %v s: %q", at, got)
		}
	}
	hear(10.5, "c")
	e.expect(t, 10.5, "-a silent")
	hear(13, "c")
	e.expect(t, 13, "")
	e.expect(t, 13.5, "-b silent")
}

// Another notifier's word counts at once: whom it removed is not taken back here, and whom
// it added is given time to be heard.
func TestTwoRosters(t *testing.T) {
	e := newEar()
	e.hear(0, "1", false)
	e.expect(t, 0, "+1")
	e.state.Evolve(2, &events.InstanceRemoved{Node: "a", Service: "journal", Incarnation: "1"})
	e.hear(1, "1", false)
	e.expect(t, 1, "")
	e.state.Evolve(3, &events.InstanceAdded{Node: "a", Service: "journal", Incarnation: "2"})
	e.hear(2, "1", false)
	e.ticks(t, 2, 12)
	e.expect(t, 12.5, "-2 silent")
	// An older notifier took incarnations back: its word stands.
	e.state.Evolve(5, &events.InstanceAdded{Node: "a", Service: "journal", Incarnation: "1"})
	e.hear(13, "1", false)
	e.expect(t, 13, "")
	e.hear(14, "2", false)
	e.expect(t, 14, "")
}

// A notifier that starts, that was stopped, or that could not hear, gives everybody a
// fresh grace. directories 92.
func TestFreshGrace(t *testing.T) {
	e := newEar()
	e.state.Evolve(1, &events.InstanceAdded{Node: "a", Service: "journal", Incarnation: "1"})
	e.ticks(t, 0, 10)
	e.expect(t, 10.5, "-1 silent")

	e = newEar()
	e.state.Evolve(1, &events.InstanceAdded{Node: "a", Service: "journal", Incarnation: "1"})
	e.ticks(t, 0, 8)
	e.ticks(t, 100, 109) // stopped for a while
	e.roster.Refresh(e.at(109))
	e.ticks(t, 109.5, 118.5)
	e.expect(t, 119.5, "-1 silent")
}

func TestManyNames(t *testing.T) {
	e := newEar()
	for i := range 2 * instancesMax {
		e.roster.Heard(e.state, &events.Heartbeat{Node: fmt.Sprint(i), Service: "journal", Incarnation: "1"}, e.at(0))
	}
	if n := len(e.roster.heard); n != instancesMax {
		t.Errorf("%d instances are listened to, want %d", n, instancesMax)
	}
	for i := range 3 * formerMax {
		e.state.Evolve(1, &events.InstanceAdded{Node: "a", Service: "journal", Incarnation: fmt.Sprint(i)})
	}
	if n := len(e.state.Instances[Key{"a", "journal"}].Former); n != formerMax {
		t.Errorf("%d former incarnations are remembered, want %d", n, formerMax)
	}
}

func TestRetryAfter(t *testing.T) {
	var got []time.Duration
	for n := range 7 {
		got = append(got, retryAfter(n+1)/time.Millisecond)
	}
	if want := []time.Duration{250, 500, 1000, 2000, 4000, 5000, 5000}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if retryAfter(1000) != retryMax {
		t.Error("the pause overflows")
	}
}

// What waits is what was requested and not acknowledged, in the order of the log, and
// however the two streams interleave.
func TestWaitingIsTheDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewState()
		var want []events.Assignment
		var log []events.Fact
		for i := range rapid.IntRange(0, 30).Draw(t, "requests") {
			a := events.Assignment{
				Operation: fmt.Sprint(i), Node: "a", Incarnation: "1", Role: events.Master,
				Directory: events.DirectoryID(rapid.SampledFrom([]string{"d", "e"}).Draw(t, "directory")),
			}
			log = append(log, &events.AcquireRequested{Assignment: a})
			want = append(want, a)
			if len(want) > 0 && rapid.Bool().Draw(t, "acknowledge") {
				i := rapid.IntRange(0, len(want)-1).Draw(t, "which")
				log = append(log, &events.AcquireAcknowledged{Assignment: want[i]})
				log = append(log, &events.AcquireAcknowledged{Assignment: want[i]}) // twice changes nothing
				want = append(want[:i:i], want[i+1:]...)
			}
			foreign := a
			foreign.Epoch = 7
			log = append(log, &events.AcquireAcknowledged{Assignment: foreign})
		}
		for i, f := range log {
			s.Evolve(uint64(i+1), f)
		}
		for _, d := range []events.DirectoryID{"d", "e"} {
			var expected []string
			for _, a := range want {
				if a.Directory == d {
					expected = append(expected, a.Operation)
				}
			}
			var got []string
			for _, w := range s.Waiting[d] {
				got = append(got, w.Assignment.Operation)
			}
			if !reflect.DeepEqual(got, expected) {
				t.Fatalf("%s: %v waits, want %v", d, got, expected)
			}
		}
	})
}
