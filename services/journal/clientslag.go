package journal

import (
	"cmp"
	"fmt"
	"time"

	"tidemark/events"
	"tidemark/internal/tail"
)

// LagLimits says how far a follower may fall behind before a directory's journal stops
// waiting for it. Then the journal can be trimmed, and the follower has to be synced
// again. Zero is the default, a negative value is never.
type LagLimits struct {
	// Bytes behind the head, for longer than a healthy follower takes to commit; by
	// default three quarters of the journal's own limit, and none where that has none.
	Bytes int64
	// Age is how long a follower may commit nothing while there is something to commit;
	// by default 7 days.
	Age time.Duration

	grace time.Duration // see lagGrace
}

const (
	lagAgeDefault = 7 * 24 * time.Hour
	// lagGrace is how long a follower may be behind by too many bytes. It is less than a
	// writer waits for a full journal, and more than goes by between two commits of a
	// follower that keeps up: a burst is no reason to cut it off.
	lagGrace = 2 * tail.CheckpointAge
)

// For returns the limits of a journal of so many bytes, 0 for one without a bound. A
// limit of zero there is none.
func (l LagLimits) For(journalBytes int64) LagLimits {
	if l.Bytes == 0 {
		l.Bytes = journalBytes / 4 * 3
	}
	if l.Age == 0 {
		l.Age = lagAgeDefault
	}
	return LagLimits{Bytes: max(l.Bytes, 0), Age: max(l.Age, 0), grace: cmp.Or(l.grace, lagGrace)}
}

// An alarm comes at half of a limit, and may come again once the follower was within a
// quarter of it.
const (
	alarmPart = 2
	calmPart  = 4
)

// lagged is a client of a journal and how far it is behind.
type lagged struct {
	events.PositionCommitted
	bytes uint64
	// over is how long it has been behind by more than the limit.
	over time.Duration
	// idle is how long the client has committed nothing that it could have.
	idle time.Duration
	// cut says that the journal has lost what the client needs.
	cut bool
}

// lagTurn is what is to be done about a client.
type lagTurn uint8

const (
	lagUnchanged lagTurn = iota
	lagCalm              // an alarm is over
	lagAlarm
	lagDisconnect
)

// decide says what is to be done about a client that was alarmed about or not, and why.
func (l LagLimits) decide(c lagged, alarmed bool) (lagTurn, string) {
	bytes, idle := c.bytes, c.idle
	switch {
	case c.State == events.ClientDisconnected:
		return lagUnchanged, ""
	case c.cut:
		return lagDisconnect, fmt.Sprintf("%s stands at %v, and the journal does not reach back that far any more: it has to be synced again",
			c.Client, c.Mark.Position)
	case over(bytes, l.Bytes, 1) && c.over >= l.grace:
		return lagDisconnect, fmt.Sprintf("%s is %s behind, and the journal waits for no more than %s: it has to be synced again",
			c.Client, mebibytes(bytes), mebibytes(uint64(l.Bytes)))
	case over(idle, l.Age, 1):
		return lagDisconnect, fmt.Sprintf("%s has committed nothing for %s, and the journal waits no longer than %s: it has to be synced again",
			c.Client, idle.Round(time.Second), l.Age)
	case !alarmed && over(bytes, l.Bytes, alarmPart):
		return lagAlarm, fmt.Sprintf("%s is %s behind; at %s the journal stops waiting for it, and it has to be synced again",
			c.Client, mebibytes(bytes), mebibytes(uint64(l.Bytes)))
	case !alarmed && over(idle, l.Age, alarmPart):
		return lagAlarm, fmt.Sprintf("%s has committed nothing for %s; after %s the journal stops waiting for it, and it has to be synced again",
			c.Client, idle.Round(time.Second), l.Age)
	case alarmed && !over(bytes, l.Bytes, calmPart) && !over(idle, l.Age, calmPart):
		return lagCalm, ""
	}
	return lagUnchanged, ""
}

// over reports whether a lag is more than the given part of a limit, where there is one.
func over[Lag uint64 | time.Duration, Limit int64 | time.Duration](lag Lag, limit Limit, part Limit) bool {
	return limit > 0 && uint64(lag) > uint64(limit/part)
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
