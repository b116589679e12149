package dashboard

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidemark/events"
	"tidemark/internal/overview"
)

const (
	rowsMax      = 50
	concernsMax  = 12
	turnsShown   = 15
	queryMax     = 200
	nodesShown   = 100
	peersShown   = 100
	lagFullScale = 10 // seconds: what a chart shows at least
)

// Query is what a reader asked to see.
type Query struct {
	Text string // part of a name
	Pool string
	Page int // from 1
}

// ParseQuery reads a query; what makes no sense is left out.
func ParseQuery(v url.Values) Query {
	q := Query{Text: v.Get("q"), Pool: v.Get("pool")}
	if len(q.Text) > queryMax {
		q.Text = q.Text[:queryMax]
	}
	q.Page, _ = strconv.Atoi(v.Get("page"))
	q.Page = max(1, q.Page)
	return q
}

// URL returns the query as a link shows it.
func (q Query) URL(page int) string {
	v := url.Values{}
	if q.Text != "" {
		v.Set("q", q.Text)
	}
	if q.Pool != "" {
		v.Set("pool", q.Pool)
	}
	if page > 1 {
		v.Set("page", strconv.Itoa(page))
	}
	if len(v) == 0 {
		return "/"
	}
	return "/?" + v.Encode()
}

// Search is the query of the stream's address.
func (q Query) Search() string { return strings.TrimPrefix(q.URL(q.Page), "/") }

// Page is all that the template shows.
type Page struct {
	Site, Node, Version string
	Assets              string // version of the files that the page loads
	Verdict             Verdict
	Concerns            []Concern
	MoreConcerns        int
	Facts               []Fact
	Lag                 *Chart
	Nodes               []NodeRow
	Query               Query
	Pools               []string
	Rows                []DirectoryRow
	Directories         string // how many of how many are shown
	Older, Newer        string // links to other pages; empty for none
	Peers               []PeerRow
	Turns               []TurnRow
	Moment              Moment
}

// Level says how much something asks of a person; it is the name of a class.
type Level string

// The levels. Each has a shape and a word of its own: colour alone says nothing.
const (
	Good    Level = "good"
	Notice  Level = "notice"
	Warning Level = "warning"
	Alarm   Level = "alarm"
	Unknown Level = "unknown"
	Plain   Level = "plain" // nothing is asked
)

// Verdict is the one sentence.
type Verdict struct {
	Level       Level
	Title, More string
}

// Concern is one thing that needs attention.
type Concern struct {
	Level         Level
	What, Message string
	Do            []string // one of them
	Since         Moment
}

// Moment is a time and its age.
type Moment struct {
	At  time.Time
	Age string
}

// Known reports whether the moment is one.
func (m Moment) Known() bool { return !m.At.IsZero() && m.At.Unix() != 0 }

// Stamp is for machines, Clock for people.
func (m Moment) Stamp() string { return m.At.UTC().Format(time.RFC3339) }

// Clock is the time of day, with the date where that is another day than today's.
func (m Moment) Clock() string { return m.At.UTC().Format("15:04:05") }

// Fact is a figure.
type Fact struct{ Name, Value, More string }

// NodeRow is a node.
type NodeRow struct {
	Node, Services string
	Directories    string
	Level          Level
	State          string
	Since          Moment
}

// DirectoryRow is a directory.
type DirectoryRow struct {
	Name, Role, State, Primary, Node string
	Level                            Level
	Lag, Backlog                     string
	Chart                            *Chart
	Journal                          string
	JournalPercent                   int // of its limit; 0 to 100
}

// PeerRow is a site that shares a pool.
type PeerRow struct{ Site, Pool, Direction string }

// TurnRow is something that happened.
type TurnRow struct {
	When                     Moment
	Level                    Level
	What, Of, Detail, AtNode string
}

func moment(at, now time.Time) Moment { return Moment{at, age(now.Sub(at))} }

// Page makes the page that a query asks for.
func (s *State) Page(q Query, now time.Time) Page {
	p := Page{Query: q, Verdict: s.verdict(now)}
	p.Turns = s.turnRows(now)
	if s.last == nil {
		return p
	}
	p.Site, p.Moment = s.last.Map.Site.Name, moment(s.last.At, now)
	concerns := s.concerns(now)
	p.Concerns = concerns[:min(len(concerns), concernsMax)]
	p.MoreConcerns = len(concerns) - len(p.Concerns)
	p.Facts, p.Lag = s.facts(), s.worst.chart(lagFullScale)
	p.Nodes = s.nodes(now)
	for _, pool := range s.last.Map.Pools {
		p.Pools = append(p.Pools, pool.Pool)
	}
	s.list(&p)
	for _, peer := range s.last.Map.Peers[:min(len(s.last.Map.Peers), peersShown)] {
		p.Peers = append(p.Peers, PeerRow{peer.Site, peer.Pool, string(peer.Direction)})
	}
	return p
}

// verdict is what a person reads first.
func (s *State) verdict(now time.Time) Verdict {
	switch {
	case s.last == nil:
		return Verdict{Unknown, "Not known yet", "The site has not answered: " + s.failure}
	case !s.failed.IsZero():
		return Verdict{
			Unknown, "The site does not answer",
			"Since " + moment(s.failed, now).Clock() + " UTC, " + age(now.Sub(s.failed)) + " ago: " + s.failure +
				". What is shown is of " + moment(s.last.At, now).Clock() + " UTC.",
		}
	}
	all := s.concerns(now)
	n := len(s.rows)
	if len(all) == 0 {
		if n == 0 {
			return Verdict{Good, "Nothing to guard yet", "There is no directory: tidemark image create POOL/DIR/IMAGE --size SIZE"}
		}
		return Verdict{Good, "Everything is safe", plural(n, "directory is", "directories are") + " held, and replicas keep up." + s.alone()}
	}
	worst := all[0].Level
	return Verdict{
		worst, plural(len(all), "thing needs", "things need") + " attention",
		"Of " + plural(n, "directory", "directories") + ", " + count(s.unusual()) + " " + isAre(s.unusual()) + " not as they should be.",
	}
}

// alone tells of primaries that nobody follows.
func (s *State) alone() string {
	n := 0
	for _, r := range s.rows {
		if r.Role == events.Master {
			if _, replicas := behindPrimary(r.Line); replicas == 0 {
				n++
			}
		}
	}
	if n == 0 {
		return ""
	}
	return " " + plural(n, "primary has", "primaries have") + " no replica."
}

// behindPrimary returns how many bytes the worst replica of a primary has not committed, and
// how many there are.
func behindPrimary(l overview.Line) (worst uint64, replicas int) {
	for _, c := range l.Nodes {
		if c.Role == events.Slave && c.State != events.ClientRemoved {
			worst, replicas = max(worst, c.Bytes), replicas+1
		}
	}
	return worst, replicas
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func (s *State) unusual() int {
	n := 0
	for _, r := range s.rows {
		if len(r.worries) == 0 {
			break // they come first
		}
		n++
	}
	return n
}

func levelOf(r overview.Rank) Level {
	switch r {
	case overview.Grave, overview.Broken:
		return Alarm
	case overview.Lagging, overview.Undelivered:
		return Warning
	default:
		return Notice
	}
}

// concerns lists what needs attention, the worst first.
func (s *State) concerns(now time.Time) []Concern {
	type ranked struct {
		overview.Rank
		Concern
	}
	var all []ranked
	add := func(w overview.Worry, since time.Time) {
		all = append(all, ranked{w.Rank, Concern{levelOf(w.Rank), w.What, w.Message, choices(w.Do), moment(since, now)}})
	}
	if len(s.last.Map.Site.Instances) == 0 {
		add(overview.Worry{Rank: overview.Grave, Attention: overview.Attention{
			What: "site", Message: "no node is alive", Do: "start a node: tidemark serve",
		}}, time.Time{})
	}
	for _, w := range s.last.Reports.Worries() {
		add(w, time.Time{})
	}
	for at, since := range s.silent {
		if now.Sub(since) < overview.SilenceTold {
			add(overview.FellSilent(at.Node, at.Service), since)
		}
	}
	for _, w := range s.last.Map.DeadLetters() {
		add(w, time.Time{})
	}
	for _, r := range s.rows[:s.unusual()] {
		for _, w := range r.worries {
			add(w, r.since)
		}
	}
	slices.SortStableFunc(all, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.Rank, b.Rank), strings.Compare(a.What, b.What), strings.Compare(a.Message, b.Message))
	})
	out := make([]Concern, len(all))
	for i, r := range all {
		out[i] = r.Concern
	}
	return out
}

// choices are the commands of which one is to be chosen.
func choices(do string) []string {
	if do == "" {
		return nil
	}
	return strings.Split(do, overview.Or)
}

// facts are the figures of the whole site.
func (s *State) facts() []Fact {
	primaries, worst, backlog := 0, 0.0, uint64(0)
	laggard := ""
	for _, r := range s.rows {
		if r.Role == events.Master {
			primaries++
		}
		backlog += r.Lag.Bytes
		if r.Lag.Seconds > worst {
			worst, laggard = r.Lag.Seconds, r.Directory
		}
	}
	nodes := map[string]bool{}
	for _, i := range s.last.Map.Site.Instances {
		nodes[i.Node] = true
	}
	sites := map[string]bool{}
	for _, p := range s.last.Map.Peers {
		sites[p.Site] = true
	}
	return []Fact{
		{"Directories", count(len(s.rows)), count(primaries) + " primary, " + count(len(s.rows)-primaries) + " replica"},
		{"Worst lag", shortSeconds(worst), cmp.Or(laggard, "nothing lags")},
		{"Backlog", overview.Size(backlog), "not applied here yet"},
		{"Nodes alive", count(len(nodes)), plural(len(s.silent), "service is silent", "services are silent")},
		{"Peer sites", count(len(sites)), plural(len(s.last.Map.Pools), "pool", "pools")},
	}
}

// nodes lists nodes that are silent, then those that live, by name.
func (s *State) nodes(now time.Time) []NodeRow {
	held, lives := map[string]int{}, map[string][]string{}
	since := map[string]time.Time{}
	for _, r := range s.rows {
		held[r.Node]++
	}
	for _, i := range s.last.Map.Site.Instances {
		lives[i.Node] = append(lives[i.Node], i.Service)
		if at := i.Since.Time(); since[i.Node].IsZero() || at.Before(since[i.Node]) {
			since[i.Node] = at
		}
	}
	var rows []NodeRow
	for at, from := range s.silent {
		if now.Sub(from) < overview.SilenceTold {
			rows = append(rows, NodeRow{at.Node, at.Service, count(held[at.Node]), Alarm, "silent", moment(from, now)})
		}
	}
	for node, services := range lives {
		slices.Sort(services)
		rows = append(rows, NodeRow{node, strings.Join(services, ", "), count(held[node]), Good, "alive", moment(since[node], now)})
	}
	slices.SortFunc(rows, func(a, b NodeRow) int {
		return cmp.Or(strings.Compare(string(a.Level), string(b.Level)), strings.Compare(a.Node, b.Node), strings.Compare(a.Services, b.Services))
	})
	return rows[:min(len(rows), nodesShown)]
}

// list fills in the rows that the query asks for.
func (s *State) list(p *Page) {
	q, text := p.Query, strings.ToLower(p.Query.Text)
	var found []row
	for _, r := range s.rows {
		if (q.Pool == "" || r.Pool() == q.Pool) && (text == "" || strings.Contains(strings.ToLower(r.Directory), text)) {
			found = append(found, r)
		}
	}
	pages := max(1, (len(found)+rowsMax-1)/rowsMax)
	page := max(1, min(q.Page, pages))
	from := (page - 1) * rowsMax
	for _, r := range found[from:min(from+rowsMax, len(found))] {
		p.Rows = append(p.Rows, s.directoryRow(r))
	}
	p.Query.Page = page
	p.Directories = count(len(s.rows))
	if len(p.Rows) < len(s.rows) {
		p.Directories = count(from+min(1, len(p.Rows))) + "–" + count(from+len(p.Rows)) + " of " + count(len(found))
	}
	if page > 1 {
		p.Newer = q.URL(page - 1)
	}
	if page < pages {
		p.Older = q.URL(page + 1)
	}
}

func (s *State) directoryRow(r row) DirectoryRow {
	d := DirectoryRow{
		Name: r.Directory, Role: "replica", State: words(r.ShownState()), Primary: r.Primary, Node: r.Node, Level: Good,
		Lag: shortSeconds(r.Lag.Seconds), Backlog: overview.Size(r.Lag.Bytes), Journal: overview.Size(r.Bytes),
	}
	if r.Role == events.Master {
		d.Role, d.Lag, d.Backlog = "primary", "–", "no replica"
		if worst, replicas := behindPrimary(r.Line); replicas > 0 {
			d.Backlog = overview.Size(worst)
		}
	} else if kept := s.lags[r.Directory]; kept != nil {
		d.Chart = kept.chart(lagFullScale)
	}
	if len(r.worries) > 0 {
		d.Level = levelOf(r.rank())
	}
	if r.BytesLimit > 0 {
		d.JournalPercent = int(min(100, r.Bytes*100/r.BytesLimit))
	}
	return d
}

func (s *State) turnRows(now time.Time) []TurnRow {
	var rows []TurnRow
	for _, f := range s.turns[:min(len(s.turns), turnsShown)] {
		of := events.DirectoryName{Pool: f.Pool, Path: f.Path}.String()
		if f.Pool == "" {
			of = ""
		}
		rows = append(rows, TurnRow{moment(f.At.Time(), now), turnLevel(f.What), words(string(f.What)), of, f.Detail, f.Node})
	}
	return rows
}

// turnLevel says how much a turn asks of a person.
func turnLevel(what events.Lifecycle) Level {
	switch what {
	case events.Diverged, events.Failed, events.LostTail, events.VerifyMismatched, events.JournalFull:
		return Alarm
	case events.Disconnected, events.RPOExceeded, events.Stalled, events.Lagging, events.Fenced, events.InstanceLost, events.JournalFilling, events.Unassigned:
		return Warning
	case events.Promoted, events.Demoted, events.JournalReset, events.ResyncStarted, events.ResyncAsked:
		return Notice
	default:
		return Plain
	}
}
