package dashboard

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/overview"
)

// noon is when tests take place.
func noon() time.Time { return time.Date(2027, 1, 15, 12, 0, 0, 0, time.UTC) }

// replica is a directory that follows west and is well.
func replica(name string, change ...func(*api.Status)) overview.Line {
	s := api.Status{Node: "n1", Role: events.Slave, Primary: "west", State: "replaying", Bytes: 1 << 20, BytesLimit: 1 << 30}
	for _, c := range change {
		c(&s)
	}
	return overview.LineOf(api.Directory{Name: name, Role: s.Role, Node: s.Node, State: overview.Mapped}, &s)
}

func failing(s *api.Status)   { s.State, s.Error = "error", "the disk is full" }
func lagging(s *api.Status)   { s.Lag = api.Lag{Entries: 7, Bytes: 3 << 20, Seconds: 42} }
func owned(s *api.Status)     { s.Role, s.State, s.Primary = events.Master, "ready", "east" }
func resyncing(s *api.Status) { s.State = "resync" }
func followed(s *api.Status) {
	s.Clients = []api.Client{{ID: "north.n1", Role: events.Slave, Bytes: 4096}}
}
func at(s int) time.Time           { return noon().Add(time.Duration(s) * time.Second) }
func instant(s int) events.Instant { return events.InstantOf(at(s)) }

func snapshot(when time.Time, lines ...overview.Line) Snapshot {
	return Snapshot{
		At: when, Lines: lines,
		Map: overview.Map{
			Site:  api.Site{Name: "east", Instances: []api.Instance{{Node: "n1", Service: "replayer", Since: instant(-3600)}, {Node: "n1", Service: "journal", Since: instant(-3700)}}},
			Pools: []api.Pool{{Pool: "vms"}, {Pool: "web"}},
			Peers: []overview.PoolPeer{{Pool: "vms", Peer: api.Peer{Site: "west", Direction: events.ReceiveAndSend}}},
		},
	}
}

// What a person reads first says how bad the worst is, and how old what is shown is.
func TestVerdict(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(*State)
		want    Verdict
	}{
		"nothing was heard": {func(*State) {}, Verdict{Unknown, "Not known yet", "The site has not answered: it was not asked yet"}},
		"no directory":      {func(s *State) { s.Heard(snapshot(at(0))) }, Verdict{Good, "Nothing to guard yet", "There is no directory: tidemark image create POOL/DIR/IMAGE --size SIZE"}},
		"all is well": {
			func(s *State) { s.Heard(snapshot(at(0), replica("vms/a"), replica("vms/b", owned, followed))) },
			Verdict{Good, "Everything is safe", "2 directories are held, and replicas keep up."},
		},
		"a primary alone": {
			func(s *State) { s.Heard(snapshot(at(0), replica("vms/b", owned))) },
			Verdict{Good, "Everything is safe", "1 directory is held, and replicas keep up. 1 primary has no replica."},
		},
		"lag": {
			func(s *State) { s.Heard(snapshot(at(0), replica("vms/a", lagging), replica("vms/b"))) },
			Verdict{Warning, "1 thing needs attention", "Of 2 directories, 1 is not as they should be."},
		},
		"a resync": {
			func(s *State) { s.Heard(snapshot(at(0), replica("vms/a", resyncing))) },
			Verdict{Notice, "1 thing needs attention", "Of 1 directory, 1 is not as they should be."},
		},
		"the worst counts": {
			func(s *State) {
				s.Heard(snapshot(at(0), replica("vms/a", lagging), replica("vms/b", failing, lagging)))
			},
			Verdict{Alarm, "3 things need attention", "Of 2 directories, 2 are not as they should be."},
		},
		"the site is gone": {
			func(s *State) {
				s.Heard(snapshot(at(0), replica("vms/a")))
				s.Unanswered(at(5), "no policy service answers")
				s.Unanswered(at(7), "there is no connection to NATS")
			},
			Verdict{Unknown, "The site does not answer", "Since 12:00:05 UTC, 1 min 25 s ago: there is no connection to NATS. What is shown is of 12:00:00 UTC."},
		},
		"and is back": {
			func(s *State) {
				s.Unanswered(at(5), "no policy service answers")
				s.Heard(snapshot(at(6), replica("vms/a")))
			},
			Verdict{Good, "Everything is safe", "1 directory is held, and replicas keep up."},
		},
		"a node fell silent": {
			func(s *State) {
				s.Heard(snapshot(at(0), replica("vms/a")))
				s.Instance(&events.InstanceRemoved{Node: "n2", Service: "journal", Reason: "silent", At: instant(0)})
			},
			Verdict{Alarm, "1 thing needs attention", "Of 1 directory, 0 are not as they should be."},
		},
		"a webhook does not take its notes": {
			func(s *State) {
				heard := snapshot(at(0), replica("vms/a"))
				heard.Map.Webhooks = []api.Webhook{{Host: "hooks.example.com", Configured: true, Dead: 2}}
				s.Heard(heard)
			},
			Verdict{Warning, "1 thing needs attention", "Of 1 directory, 0 are not as they should be."},
		},
		"a node left": {
			func(s *State) {
				s.Heard(snapshot(at(0), replica("vms/a")))
				s.Instance(&events.InstanceRemoved{Node: "n2", Service: "journal", Reason: "left", At: instant(0)})
			},
			Verdict{Good, "Everything is safe", "1 directory is held, and replicas keep up."},
		},
		"and a silent one is back": {
			func(s *State) {
				s.Heard(snapshot(at(0), replica("vms/a")))
				s.Instance(&events.InstanceRemoved{Node: "n2", Service: "journal", Reason: "silent", At: instant(0)})
				s.Instance(&events.InstanceAdded{Node: "n2", Service: "journal"})
			},
			Verdict{Good, "Everything is safe", "1 directory is held, and replicas keep up."},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewState(noon())
			c.happens(s)
			if got := s.Page(Query{Page: 1}, at(90)).Verdict; got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// What needs attention stands first, with since when that was so; a directory that is gone
// leaves nothing behind.
func TestConcernsAndTheirAge(t *testing.T) {
	s := NewState(noon())
	s.Heard(snapshot(at(0), replica("vms/a"), replica("vms/b", lagging)))
	s.Heard(snapshot(at(60), replica("vms/a", failing), replica("vms/b", lagging), replica("vms/c")))
	p := s.Page(Query{Page: 1}, at(90))
	var told []string
	for _, c := range p.Concerns {
		told = append(told, fmt.Sprintf("%s %s %s: %s", c.Level, c.Since.Age, c.What, c.Message))
	}
	want := []string{"alarm 30 s vms/a: error: the disk is full", "warning 1 min 30 s vms/b: lagging: 42s behind its primary (7 entries, 3MiB)"}
	if !slices.Equal(told, want) {
		t.Errorf("concerns %q", told)
	}
	var names []string
	for _, r := range p.Rows {
		names = append(names, r.Name)
	}
	if got := strings.Join(names, " "); got != "vms/a vms/b vms/c" {
		t.Errorf("rows %s", got)
	}
	s.Heard(snapshot(at(62), replica("vms/c")))
	if len(s.lags) != 1 || len(s.since) != 0 {
		t.Errorf("%d series and %d worries of one directory that is well", len(s.lags), len(s.since))
	}
	s.Heard(snapshot(at(64), replica("vms/c"), replica("vms/b", lagging)))
	if age := s.Page(Query{}, at(65)).Concerns[0].Since.Age; age != "1 s" {
		t.Errorf("a new directory of the same name lags for %s", age)
	}
}

// The lag's picture is of the last minutes, a sample each five seconds.
func TestCharts(t *testing.T) {
	s := NewState(noon())
	for i := range 3 * samplesMax {
		s.Heard(snapshot(at(i), replica("vms/a", func(s *api.Status) { s.Lag.Seconds = float64(i % 50) })))
	}
	chart := s.Page(Query{Page: 1}, at(0)).Rows[0].Chart
	if chart == nil {
		t.Fatal("no chart")
	}
	if n := strings.Count(chart.Points, ","); n != 3*samplesMax/5 {
		t.Errorf("%d points", n)
	}
	if want := "lag over the last 5 min 55 s: at most 45 s, now 5.0 s"; chart.Label != want {
		t.Errorf("%q, want %q", chart.Label, want)
	}
	for i := range samplesMax {
		s.lags["vms/a"].add(float64(i))
	}
	if values := s.lags["vms/a"].values(); len(values) != samplesMax || values[0] != 0 || values[samplesMax-1] != samplesMax-1 {
		t.Errorf("the ring holds %v", values)
	}
	if new(series).chart(1) != nil {
		t.Error("a picture of nothing")
	}
}

func TestListing(t *testing.T) {
	s := NewState(noon())
	var lines []overview.Line
	for i := range 120 {
		lines = append(lines, replica(fmt.Sprintf("vms/d%03d", i)))
	}
	lines = append(lines, replica("web/x", failing))
	s.Heard(snapshot(at(0), lines...))
	for name, c := range map[string]struct {
		query        string
		first, shown string
		rows         int
		newer, older string
	}{
		"the first page":  {"", "web/x", "1–50 of 121", 50, "", "/?page=2"},
		"the second page": {"page=2", "vms/d049", "51–100 of 121", 50, "/", "/?page=3"},
		"the last page":   {"page=3", "vms/d099", "101–121 of 121", 21, "/?page=2", ""},
		"too far":         {"page=99", "vms/d099", "101–121 of 121", 21, "/?page=2", ""},
		"nonsense":        {"page=-1&pool=&q=", "web/x", "1–50 of 121", 50, "", "/?page=2"},
		"a pool":          {"pool=web", "web/x", "1–1 of 1", 1, "", ""},
		"part of a name":  {"q=D11&pool=vms", "vms/d110", "1–10 of 10", 10, "", ""},
		"nothing":         {"q=%3Cscript%3E", "", "0–0 of 0", 0, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			values, err := url.ParseQuery(c.query)
			if err != nil {
				t.Fatal(err)
			}
			p := s.Page(ParseQuery(values), at(0))
			first := ""
			if len(p.Rows) > 0 {
				first = p.Rows[0].Name
			}
			if first != c.first || p.Directories != c.shown || len(p.Rows) != c.rows || p.Newer != c.newer || p.Older != c.older {
				t.Errorf("first %s, %q, %d rows, newer %q, older %q", first, p.Directories, len(p.Rows), p.Newer, p.Older)
			}
		})
	}
	if q := ParseQuery(url.Values{"q": {strings.Repeat("x", 1000)}}); len(q.Text) != queryMax {
		t.Errorf("a query of %d bytes", len(q.Text))
	}
}

func TestTexts(t *testing.T) {
	for want, got := range map[string]string{
		"0": count(0), "999": count(999), "1,000": count(1000), "-1,234,567": count(-1234567),
		"0 s": shortSeconds(0.01), "9.9 s": shortSeconds(9.94), "12 s": shortSeconds(12.4),
		"2 min": age(2 * time.Minute), "1 h 1 min": age(3661 * time.Second), "2 d 3 h": age(51 * time.Hour),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
