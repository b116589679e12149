package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// scrape is what a process exports, by the names of series.
type scrape map[string][]labels.Labels

// value is a sample, by its name and labels in PromQL's form.
type values map[string]float64

// take reads /metrics of a process into a scrape.
func (s scrape) take(t *testing.T, address string) values {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	reader := expfmt.NewTextParser(model.UTF8Validation)
	families, err := reader.TextToMetricFamilies(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	all := values{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			b := labels.NewScratchBuilder(4)
			for _, l := range m.GetLabel() {
				b.Add(l.GetName(), l.GetValue())
			}
			b.Sort()
			set := b.Labels()
			names := []string{name}
			if f.GetType() == dto.MetricType_HISTOGRAM {
				names = []string{name + "_bucket", name + "_count", name + "_sum"}
			}
			for _, n := range names {
				s[n] = append(s[n], set)
			}
			all[name+set.String()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return all
}

// checkExpression demands that PromQL understands an expression, and that each of its
// selectors selects something that is exported.
func (s scrape) checkExpression(t *testing.T, where, expression string) {
	t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		if v, ok := n.(*parser.VectorSelector); ok && !s.selects(v) {
			t.Errorf("%s: no exported series matches %s", where, v)
		}
		return nil
	})
}

func (s scrape) selects(v *parser.VectorSelector) bool {
	for _, series := range s[v.Name] {
		all := true
		for _, m := range v.LabelMatchers {
			all = all && (m.Name == model.MetricNameLabel || m.Matches(series.Get(m.Name)))
		}
		if all {
			return true
		}
	}
	return false
}

// directories 147; rivals 7: what alert rules, the dashboard for Grafana and the handbook
// name is exported by sites that run, with those labels; counters only rise, gauges are what
// there is, and nothing is left of a directory that is gone.
func TestMetricsOfAPair(t *testing.T) {
	takes := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer takes.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &twoSites{
		t:    t,
		east: startServe(t, "--data", t.TempDir(), "--site", "east", "--node", "e1", "--webhook", takes.URL, "--webhook-secret-file", secret, "--webhook-allow-private"),
		west: startServe(t, "--data", t.TempDir(), "--site", "west", "--node", "w1"),
	}
	p.mirror("vms/prod")
	p.must(p.west, "", "mirror", "set", "vms/prod", "--target-rpo", "5s")
	p.must(p.west, "", "mirror", "verify", "vms/prod")
	all := scrape{}
	before, follower := all.take(t, p.east.values["http"]), all.take(t, p.west.values["http"])
	for series, want := range map[string]float64{
		`tidemark_policy_directories{state="mapped"}`:                                               1,
		`tidemark_policy_directories{state="stalled"}`:                                              0,
		`tidemark_policy_pool_directories{pool="vms"}`:                                              1,
		`tidemark_policy_pool_mirrored{pool="vms"}`:                                                 1,
		`tidemark_policy_pool_peers{pool="vms"}`:                                                    1,
		`tidemark_notifier_instances`:                                                               2,
		`tidemark_split_brain{directory="vms/prod", pool="vms", role="master"}`:                     0,
		`tidemark_directory_ready{directory="vms/prod", pool="vms", role="master"}`:                 1,
		`tidemark_directory_state{directory="vms/prod", pool="vms", role="master", state="ready"}`:  1,
		`tidemark_directory_state{directory="vms/prod", pool="vms", role="master", state="failed"}`: 0,
	} {
		if got, there := before[series]; !there || got != want {
			if got, there = before[series+"{}"]; !there || got != want {
				t.Errorf("east: %s is %v (%v), want %v", series, got, there, want)
			}
		}
	}
	if got := follower[`tidemark_target_rpo_seconds{directory="vms/prod", pool="vms", role="slave"}`]; got != 5 {
		t.Errorf("west's target is %v", got)
	}
	for _, size := range []string{"journal_bytes", "history_seconds", "last_applied_timestamp_seconds"} {
		if got := before[`tidemark_`+size+`{directory="vms/prod", pool="vms", role="master"}`]; got <= 0 {
			t.Errorf("east: tidemark_%s is %v", size, got)
		}
	}
	t.Run("rules", func(t *testing.T) { checkRules(t, all) })
	t.Run("grafana", func(t *testing.T) { checkGrafana(t, all) })

	p.must(p.east, "", "image", "create", "vms/prod/more", "--size", "1MiB")
	after := all.take(t, p.east.values["http"])
	const logged = `tidemark_journal_logged_entries_total{directory="vms/prod", pool="vms", role="master"}`
	if after[logged] <= before[logged] {
		t.Errorf("entries logged: %v, then %v", before[logged], after[logged])
	}
	for series, was := range before {
		if name, _, _ := strings.Cut(series, "{"); strings.HasSuffix(name, "_total") && after[series] < was {
			t.Errorf("%s fell from %v to %v", series, was, after[series])
		}
	}
	p.must(p.west, "", "mirror", "remove", "vms/prod")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(testTime)
	for gone := false; !gone; <-tick.C {
		gone = true
		for series := range (scrape{}).take(t, p.west.values["http"]) {
			gone = gone && !strings.Contains(series, "vms/prod")
		}
		if time.Now().After(deadline) {
			t.Fatal("a directory that is gone is still exported")
		}
	}
}

func deployed(t *testing.T, path ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "deploy"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// checkRules checks every alert rule, and that the handbook says what to do about it.
func checkRules(t *testing.T, all scrape) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr, For string }
		}
	}
	if err := yaml.Unmarshal(deployed(t, "prometheus", "alerts.yml"), &file); err != nil {
		t.Fatal(err)
	}
	handbook, err := os.ReadFile(filepath.Join("..", "..", "docs", "OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			found[r.Alert] = true
			all.checkExpression(t, r.Alert, r.Expr)
			if _, err := time.ParseDuration(r.For); r.For != "" && err != nil {
				t.Errorf("%s: %v", r.Alert, err)
			}
			if !strings.Contains(string(handbook), "\n### "+r.Alert+"\n") {
				t.Errorf("docs/OPERATIONS.md does not say what to do about %s", r.Alert)
			}
		}
	}
	for _, name := range []string{
		"RPOExceeded", "ReplicaStalled", "SplitBrain", "JournalNearlyFull", "VerifyMismatch", "HistoryShrinking", "NodeSilent", "DirectoryStalled", "DeadLetters",
	} {
		if !found[name] {
			t.Errorf("there is no rule %s", name)
		}
	}
	for _, m := range regexp.MustCompile("`(tidemark_[a-z_]+)`").FindAllStringSubmatch(string(handbook), -1) {
		if len(all[m[1]]) == 0 && len(all[m[1]+"_count"]) == 0 {
			t.Errorf("docs/OPERATIONS.md names %s, which is not exported", m[1])
		}
	}
}

func checkGrafana(t *testing.T, all scrape) {
	t.Helper()
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(deployed(t, "grafana", "tidemark.json"), &board); err != nil {
		t.Fatal(err)
	}
	if len(board.Panels) < 10 {
		t.Errorf("it has %d panels", len(board.Panels))
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			expression := strings.NewReplacer("$pool", ".*", "$directory", ".*").Replace(target.Expr)
			all.checkExpression(t, p.Title, expression)
		}
	}
}
