package journal

import (
	"strings"
	"testing"
	"time"

	"tidemark/events"
)

const day = 24 * time.Hour

func TestLagLimits(t *testing.T) {
	const week = 7 * day
	for _, c := range []struct {
		said    LagLimits
		journal int64
		want    LagLimits
	}{
		{LagLimits{}, 4 << 30, LagLimits{Bytes: 3 << 30, Age: week}},
		{LagLimits{}, 0, LagLimits{Age: week}}, // a journal without a bound
		{LagLimits{Bytes: 5, Age: time.Hour}, 4 << 30, LagLimits{Bytes: 5, Age: time.Hour}},
		{LagLimits{Bytes: 5}, 0, LagLimits{Bytes: 5, Age: week}},
		{LagLimits{Bytes: -1, Age: -1}, 4 << 30, LagLimits{}},
	} {
		c.want.grace = lagGrace
		if got := c.said.For(c.journal); got != c.want {
			t.Errorf("%+v of a journal of %d: %+v, want %+v", c.said, c.journal, got, c.want)
		}
	}
}

// journal 33, and with it what is ours: by bytes and by age, with an alarm before.
func TestLagDecision(t *testing.T) {
	limits := LagLimits{Bytes: 1000, Age: 7 * day, grace: time.Minute}
	out := events.PositionCommitted{State: events.ClientDisconnected}
	for _, c := range []struct {
		name    string
		limits  LagLimits
		client  lagged
		alarmed bool
		want    lagTurn
		why     string
	}{
		{"level", limits, lagged{}, false, lagUnchanged, ""},
		{"half of the bytes", limits, lagged{bytes: 500}, false, lagUnchanged, ""},
		{"more than half", limits, lagged{bytes: 501}, false, lagAlarm, "stops waiting for it, and it has to be synced again"},
		{"an alarm was given", limits, lagged{bytes: 501}, true, lagUnchanged, ""},
		{"all of the bytes", limits, lagged{bytes: 1000}, true, lagUnchanged, ""},
		{"more, in a burst", limits, lagged{bytes: 1001, over: time.Minute - 1}, true, lagUnchanged, ""},
		{"much more, in a burst", limits, lagged{bytes: 5000}, false, lagAlarm, "stops waiting for it"},
		{"more", limits, lagged{bytes: 1001, over: time.Minute}, true, lagDisconnect, "has to be synced again"},
		{"more, and no alarm was given", limits, lagged{bytes: 5000, over: time.Hour}, false, lagDisconnect, "has to be synced again"},
		{"a little better", limits, lagged{bytes: 251}, true, lagUnchanged, ""},
		{"well again", limits, lagged{bytes: 250}, true, lagCalm, ""},
		{"half of the age", limits, lagged{idle: 7 * day / 2}, false, lagUnchanged, ""},
		{"over it", limits, lagged{idle: 4 * day}, false, lagAlarm, "has committed nothing for 96h"},
		{"well by bytes, not by age", limits, lagged{bytes: 1, idle: 2 * day}, true, lagUnchanged, ""},
		{"over the age", limits, lagged{idle: 7*day + 1}, true, lagDisconnect, "has committed nothing for 168h"},
		{"no limit of bytes", LagLimits{Age: day}, lagged{bytes: 1 << 60}, false, lagUnchanged, ""},
		{"no limit of age", LagLimits{Bytes: 1}, lagged{idle: 1 << 60}, false, lagUnchanged, ""},
		{"what it needs is gone", LagLimits{}, lagged{cut: true}, false, lagDisconnect, "does not reach back"},
		{"disconnected", limits, lagged{PositionCommitted: out, bytes: 5000, cut: true}, true, lagUnchanged, ""},
	} {
		turn, why := c.limits.decide(c.client, c.alarmed)
		if turn != c.want || !strings.Contains(why, c.why) || (why == "") != (c.why == "") {
			t.Errorf("%s: turn %d, %q", c.name, turn, why)
		}
	}
}
