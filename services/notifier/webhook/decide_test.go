package webhook

import (
	"errors"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

func TestDecide(t *testing.T) {
	p := DefaultPolicy(0)
	if p.GiveUp != DefaultGiveUp {
		t.Errorf("gives up after %s", p.GiveUp)
	}
	status := func(code int) Outcome { return Outcome{Status: code} }
	asks := func(code int, wait time.Duration) Outcome { return Outcome{Status: code, RetryAfter: wait} }
	unreachable := Outcome{Err: errors.New("connection refused")}
	blocked := Outcome{Err: &BlockedError{netip.MustParseAddr("10.0.0.1")}}
	for name, c := range map[string]struct {
		outcome Outcome
		tried   Tried
		jitter  float64
		step    Step
		wait    time.Duration
	}{
		"taken":                          {status(200), Tried{Tries: 1}, 0, Deliver, 0},
		"taken without an answer":        {status(204), Tried{Tries: 100, Age: 100 * time.Hour}, 0, Deliver, 0},
		"first failure":                  {status(500), Tried{Tries: 1}, 1, Again, time.Second},
		"first failure, least pause":     {status(500), Tried{Tries: 1}, 0, Again, 500 * time.Millisecond},
		"tries that were lost count":     {unreachable, Tried{Tries: 0}, 1, Again, time.Second},
		"doubled":                        {unreachable, Tried{Tries: 5}, 1, Again, 16 * time.Second},
		"doubled to the most":            {status(503), Tried{Tries: 12}, 1, Again, 30 * time.Minute},
		"no number overflows":            {status(503), Tried{Tries: 1 << 60}, 1, Again, 30 * time.Minute},
		"asks for more time":             {asks(429, time.Minute), Tried{Tries: 1}, 1, Again, time.Minute},
		"asks for less than the pause":   {asks(503, time.Second), Tried{Tries: 6}, 1, Again, 32 * time.Second},
		"asks for ever":                  {asks(429, 1000*time.Hour), Tried{Tries: 1}, 1, Again, time.Hour},
		"the last try is when it ends":   {status(500), Tried{Tries: 100, Age: 72*time.Hour - time.Minute}, 1, Again, time.Minute},
		"it has ended":                   {status(500), Tried{Tries: 100, Age: 72 * time.Hour}, 1, Bury, 0},
		"waited behind others all along": {unreachable, Tried{Tries: 1, Age: 80 * time.Hour}, 1, Bury, 0},
		"busy is no refusal":             {status(429), Tried{Tries: 90, Refusals: 8}, 1, Again, 30 * time.Minute},
		"slow is no refusal":             {status(408), Tried{Tries: 90, Refusals: 8}, 1, Again, 30 * time.Minute},
		"refused":                        {status(400), Tried{Tries: 7, Refusals: 7}, 1, Again, 64 * time.Second},
		"refused often":                  {status(400), Tried{Tries: 8, Refusals: 8}, 1, Bury, 0},
		"redirected":                     {status(302), Tried{Tries: 1, Refusals: 1}, 1, Again, time.Second},
		"redirected often":               {status(307), Tried{Tries: 8, Refusals: 8}, 1, Bury, 0},
		"blocked":                        {blocked, Tried{Tries: 1, Refusals: 1}, 1, Again, time.Second},
		"blocked often":                  {blocked, Tried{Tries: 8, Refusals: 8}, 1, Bury, 0},
		"a former refusal":               {status(500), Tried{Tries: 20, Refusals: 8}, 1, Again, 30 * time.Minute},
		"gone":                           {status(410), Tried{Tries: 1, Refusals: 1}, 1, Bury, 0},
	} {
		step, wait := p.Decide(c.outcome, c.tried, c.jitter)
		if step != c.step || wait != c.wait {
			t.Errorf("%s: %v after %s, want %v after %s", name, step, wait, c.step, c.wait)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "120": 2 * time.Minute, "-5": 0, "1.5": 0, "99999999999999999999": 0, "soon": 0,
		now.Add(time.Hour).Format(http.TimeFormat):  time.Hour,
		now.Add(-time.Hour).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}
