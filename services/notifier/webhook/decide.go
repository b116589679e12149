package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Outcome is how one try ended.
type Outcome struct {
	Status     int           // of HTTP; zero if there was no answer
	RetryAfter time.Duration // what the answer asked for; zero is nothing
	Err        error         // why there was no answer
}

// Accepted reports whether the endpoint has taken the event.
func (o Outcome) Accepted() bool { return o.Status >= 200 && o.Status < 300 }

// Refused reports whether the endpoint, or what leads to it, is wrong, and not merely
// unwell: trying for long is of little use.
func (o Outcome) Refused() bool {
	switch o.Status {
	case 0:
		return errors.As(o.Err, new(*BlockedError))
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return o.Status >= 300 && o.Status < 500
}

// String says it in one line, without a URL.
func (o Outcome) String() string {
	if o.Status == 0 {
		return fmt.Sprint(o.Err)
	}
	return fmt.Sprintf("%d %s", o.Status, http.StatusText(o.Status))
}

// Step is what to do after a try.
type Step int

// The steps.
const (
	Deliver Step = iota // it is delivered: the next one
	Again               // the same again, after a pause
	Bury                // it becomes a dead letter
)

// Policy bounds the tries of a note.
type Policy struct {
	First, Last time.Duration // pauses, doubling from one to the other
	GiveUp      time.Duration // since the note was stored, or sent again
	Refusals    int           // how many are believed
	// RetryAfterMax bounds what an endpoint may ask for.
	RetryAfterMax time.Duration
}

// DefaultPolicy is used where nothing else is said.
func DefaultPolicy(giveUp time.Duration) Policy {
	if giveUp <= 0 {
		giveUp = DefaultGiveUp
	}
	return Policy{First: time.Second, Last: 30 * time.Minute, GiveUp: giveUp, Refusals: 8, RetryAfterMax: time.Hour}
}

// Tried is what is known of a note's tries, the last one included.
type Tried struct {
	Tries    uint64        // from 1
	Refusals int           // of them, in a row
	Age      time.Duration // since the note was stored, or sent again
}

// Decide returns what to do after a try, and the pause before the next one. jitter, from
// 0 to 1, spreads the pauses of several endpoints: between half and the whole of what
// doubling gives. A pause ends when the note is to be given up at the latest, so that the
// last try is then.
func (p Policy) Decide(o Outcome, t Tried, jitter float64) (Step, time.Duration) {
	switch {
	case o.Accepted():
		return Deliver, 0
	case o.Status == http.StatusGone, o.Refused() && t.Refusals >= p.Refusals, t.Age >= p.GiveUp:
		return Bury, 0
	}
	const doublingsMax = 30
	pause := p.Last
	if doublings := max(t.Tries, 1) - 1; doublings < doublingsMax {
		pause = min(p.First<<doublings, p.Last)
	}
	pause = pause/2 + time.Duration(jitter*float64(pause/2))
	pause = max(pause, min(o.RetryAfter, p.RetryAfterMax))
	return Again, min(pause, p.GiveUp-t.Age)
}
