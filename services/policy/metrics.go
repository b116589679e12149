package policy

import (
	"github.com/prometheus/client_golang/prometheus"

	"tidemark/internal/api"
)

type metrics struct {
	published  *prometheus.CounterVec
	overtaken  prometheus.Counter
	unreadable prometheus.Counter
	refused    prometheus.Counter
}

// newMetrics registers the service's metrics; r may be nil. count returns the directories
// in each state of the interface, and the pools.
func newMetrics(r prometheus.Registerer, count func() (map[string]int, []api.Pool)) *metrics {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "tidemark", Subsystem: "policy", Name: name, Help: help}
	}
	m := &metrics{
		published:  prometheus.NewCounterVec(opts("facts_total", "Facts published, by kind."), []string{"kind"}),
		overtaken:  prometheus.NewCounter(opts("overtaken_total", "Publications that another writer was faster than, and that were decided again.")),
		unreadable: prometheus.NewCounter(opts("unreadable_total", "Messages of streams that could not be read and were skipped.")),
		refused:    prometheus.NewCounter(opts("joins_denied_total", "Sites that came with a token and were not let in.")),
	}
	if r != nil {
		r.MustRegister(m.published, m.overtaken, m.unreadable, m.refused, newCounted(count))
	}
	return m
}

// counted is what is counted when it is asked for: a state follows from facts and from the
// clock, so there is no moment at which it could be counted.
type counted struct {
	states                       *prometheus.Desc
	mirrored, directories, peers *prometheus.Desc
	count                        func() (states map[string]int, pools []api.Pool)
}

func newCounted(count func() (map[string]int, []api.Pool)) counted {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName("tidemark", "policy", name), help, labels, nil)
	}
	return counted{
		states:      desc("directories", "Directories in the map, by state.", "state"),
		mirrored:    desc("pool_mirrored", "1 while the pool is mirrored, else 0.", "pool"),
		directories: desc("pool_directories", "Directories in the pool.", "pool"),
		peers:       desc("pool_peers", "Sites that share the pool.", "pool"),
		count:       count,
	}
}

// Describe implements [prometheus.Collector].
func (c counted) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.states, c.mirrored, c.directories, c.peers} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (c counted) Collect(out chan<- prometheus.Metric) {
	states, pools := c.count()
	gauge := func(d *prometheus.Desc, n int, label string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), label)
	}
	for state, n := range states {
		gauge(c.states, n, state)
	}
	for _, p := range pools {
		mirrored := 0
		if p.Mirroring {
			mirrored = 1
		}
		gauge(c.mirrored, mirrored, p.Pool)
		gauge(c.directories, p.Directories, p.Pool)
		gauge(c.peers, p.Peers, p.Pool)
	}
}
