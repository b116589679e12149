package policy

import (
	"reflect"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/fault"
)

// directories 104, 121: 1 s, doubling to 30 s; a new incarnation is asked at once.
func TestBackOff(t *testing.T) {
	s := newScript(t)
	s.fold(up("a", "1")...)
	s.fold(created())
	s.step("map")
	var waits []int
	for range 7 {
		s.acknowledge(s.step("acquire"), fault.Internal)
		d := Decide(s.state, "d", s.now, "op")
		if d.Fact != nil {
			t.Fatalf("asked again at once: %+v", d.Fact)
		}
		waits = append(waits, int((d.Wake-s.now)/1e9))
		s.now = d.Wake
	}
	if want := []int{1, 2, 4, 8, 16, 30, 30}; !reflect.DeepEqual(waits, want) {
		t.Errorf("waited %v, want %v", waits, want)
	}
	s.acknowledge(s.step("acquire"), fault.Internal)
	s.fold(up("a", "2")...)
	if f := s.step("acquire"); f == nil {
		t.Error("the new incarnation waits for the old one's failures")
	}
}

// A clock that is ahead where the answer comes from, or one here that is put back, puts no
// directory off.
func TestBackOffWithWrongClocks(t *testing.T) {
	s := newScript(t)
	s.now = events.Instant(time.Hour)
	s.fold(up("a", "1")...)
	s.fold(created())
	s.step("map")
	fail := func(at events.Instant) {
		f := s.step("acquire").(*events.AcquireRequested)
		s.fold(&events.AcquireAcknowledged{Assignment: f.Assignment, Code: string(fault.Internal), At: at})
	}
	for _, want := range []time.Duration{time.Second, 2 * time.Second} {
		fail(s.now + events.Instant(time.Hour))
		d := Decide(s.state, "d", s.now, "op")
		if d.Fact != nil || d.Wake.Sub(s.now) != want {
			t.Fatalf("asked again %+v in %s, want %s", d.Fact, d.Wake.Sub(s.now), want)
		}
		s.now = d.Wake
	}
	fail(s.now)
	s.now -= events.Instant(30 * time.Minute)
	s.step("acquire")
}

// A replica that one node cannot take goes to another; a master stays where its data is.
func TestMoveElsewhere(t *testing.T) {
	for _, c := range []struct {
		fact events.Fact
		row  string
	}{{tracked(), "move elsewhere"}, {created(), "acquire"}} {
		s := newScript(t)
		s.fold(up("a", "1")...)
		s.fold(c.fact)
		s.step("map")
		s.fold(up("b", "1")...)
		for range moveAfter {
			s.acknowledge(s.step("acquire"), fault.NoSpace)
			s.now += events.Instant(retryMax)
		}
		s.step(c.row)
	}
}
