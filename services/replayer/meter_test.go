package replayer

import (
	"math"
	"testing"
	"time"
)

func TestMeterTellsRateAndTimeLeft(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > want/10+1e-9 {
			t.Errorf("%s is %g, want %g", what, got, want)
		}
	}
	m := newMeter(3, 100, 100<<20, start)
	for i := range 100 { // ten seconds at 1 MiB/s
		m.add(0, 1<<20/10, at(float64(i+1)/10))
	}
	m.add(10, 0, at(10))
	p := m.progress(at(10))
	if p.Objects != 13 || p.ObjectsTotal != 103 || p.BytesTotal != 100<<20 {
		t.Errorf("%+v", *p)
	}
	near("rate", p.Rate, 1<<20)
	near("seconds left", p.SecondsLeft, 90)
	for i := range 60 { // six seconds at 4 MiB/s: the former rate is forgotten
		m.add(0, 4<<20/10, at(10+float64(i+1)/10))
	}
	near("rate", m.progress(at(16)).Rate, 4<<20)
	if got := m.progress(at(60)).Rate; got > 1<<20/10 {
		t.Errorf("nothing came for 44 s, and the rate is %g", got)
	}
	if got := m.progress(at(60 + 3600)); got.Rate > 0.01*(1<<20) {
		t.Errorf("nothing came for an hour, and the rate is %g", got.Rate)
	}
	if (*meter)(nil).progress(start) != nil {
		t.Error("nothing is copied, and there is progress")
	}
}
