package replayer

import (
	"slices"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
)

// Entries, bytes and seconds are of one reading: never negative, never zero because nothing
// was heard, and none for an idle image.
//
// rivals 7: an idle image is never behind, a silent source always.
func TestLagOfOneReading(t *testing.T) {
	now := time.Unix(5000, 0)
	ago := func(seconds float64) time.Time { return now.Add(-time.Duration(seconds * float64(time.Second))) }
	// The primary's clock is an hour ahead of ours.
	said := func(seconds float64) events.Instant { return events.InstantOf(ago(seconds).Add(time.Hour)) }
	head := events.Mark{Position: events.At(5000, 9), Entries: 109, Bytes: 900, Time: said(20)}
	applied := events.Mark{Position: events.At(5000, 7), Entries: 107, Bytes: 700, Time: said(70)}
	for name, c := range map[string]struct {
		view view
		want api.Lag
	}{
		"idle and level":                    {view{true, head, said(0.5), ago(0.5), ago(0.5), head, ago(90)}, api.Lag{}},
		"ahead of what was heard":           {view{true, head, said(0.5), ago(0.5), ago(0.5), events.Mark{Position: events.At(5000, 10)}, ago(90)}, api.Lag{}},
		"behind since it was level":         {view{true, head, said(0.5), ago(0.5), ago(10), applied, ago(90)}, api.Lag{Entries: 2, Bytes: 200, Seconds: 10}},
		"never level":                       {view{true, head, said(0.5), ago(0.5), time.Time{}, applied, ago(90)}, api.Lag{Entries: 2, Bytes: 200, Seconds: 70}},
		"level, and then nothing is heard":  {view{true, head, said(60), ago(60), ago(60), head, ago(90)}, api.Lag{Seconds: 60, Unheard: 60}},
		"behind, and then nothing is heard": {view{true, head, said(60), ago(60), ago(65), applied, ago(90)}, api.Lag{Entries: 2, Bytes: 200, Seconds: 65, Unheard: 60}},
		"never heard":                       {view{heard: ago(7)}, api.Lag{Seconds: 7, Unheard: 7}},
		"not heard just yet":                {view{heard: ago(1)}, api.Lag{}},
		"a first sync":                      {view{true, head, said(0), ago(0), time.Time{}, events.Mark{}, ago(90)}, api.Lag{Entries: 109, Bytes: 900, Seconds: 90}},
		"a clock that went back":            {view{true, head, said(500), now.Add(time.Second), now.Add(time.Second), applied, ago(90)}, api.Lag{Entries: 2, Bytes: 200}},
		"a reset that counts anew":          {view{true, events.Mark{Position: events.At(6000, 1), Entries: 1, Bytes: 10}, said(0), ago(0), ago(1), applied, ago(90)}, api.Lag{Seconds: 1}},
	} {
		if got := c.view.lag(now); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// rivals 7: one alarm within a period after a copy stands still, none for an idle one.
// rivals 15: the alarm is taken back when lag is under its target again.
func TestAlarmsAreRaisedOnce(t *testing.T) {
	target := Settings{TargetRPO: 5 * time.Second}
	held := Settings{TargetRPO: 5 * time.Second, Delay: time.Minute}
	behind := func(seconds float64) api.Lag { return api.Lag{Entries: 3, Bytes: 30, Seconds: seconds} }
	for name, steps := range map[string][]struct {
		signs signs
		told  []events.Lifecycle
	}{
		"idle": {
			{signs{api.Lag{}, 0, target}, nil},
			{signs{api.Lag{}, time.Hour, target}, nil},
		},
		"behind and back": {
			{signs{behind(4.9), 0, target}, nil},
			{signs{behind(5.1), 0, target}, []events.Lifecycle{events.RPOExceeded}},
			{signs{behind(9), 0, target}, nil},
			{signs{behind(5), 0, target}, []events.Lifecycle{events.RPORestored}},
			{signs{behind(6), 0, target}, []events.Lifecycle{events.RPOExceeded}},
		},
		"no target": {{signs{behind(1e6), 0, Settings{}}, nil}},
		"a target that is set later": {
			{signs{behind(60), 0, Settings{}}, nil},
			{signs{behind(60), 0, target}, []events.Lifecycle{events.RPOExceeded}},
			{signs{behind(60), 0, Settings{}}, []events.Lifecycle{events.RPORestored}},
		},
		"stands still": {
			{signs{behind(9), 9 * time.Second, Settings{}}, nil},
			{signs{behind(11), 11 * time.Second, Settings{}}, []events.Lifecycle{events.Stalled}},
			{signs{behind(30), 30 * time.Second, Settings{}}, nil},
			{signs{behind(30), 0, Settings{}}, []events.Lifecycle{events.Resumed}},
		},
		"hears nothing": {
			{signs{api.Lag{Seconds: 4, Unheard: 4}, time.Hour, target}, nil},
			{signs{api.Lag{Seconds: 11, Unheard: 11}, time.Hour, target}, []events.Lifecycle{events.RPOExceeded, events.Stalled}},
			{signs{api.Lag{}, 0, target}, []events.Lifecycle{events.RPORestored, events.Resumed}},
		},
		"held back on purpose": {
			{signs{behind(64), time.Minute, held}, nil},
			{signs{behind(66), 71 * time.Second, held}, []events.Lifecycle{events.RPOExceeded, events.Stalled}},
		},
	} {
		var raised alarms
		for i, step := range steps {
			var turns []turn
			raised, turns = raised.next(step.signs)
			var told []events.Lifecycle
			for _, t := range turns {
				told = append(told, t.what)
			}
			if !slices.Equal(told, step.told) {
				t.Errorf("%s, step %d: %v, want %v", name, i, told, step.told)
			}
		}
	}
}
