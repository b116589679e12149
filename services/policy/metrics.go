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

// counts is what is counted of the map.
type counts struct {
	states map[string]int // directories in each state of the interface
	pools  []api.Pool
	old    map[string]oldCopies // by node
}

// oldCopies are the copies of directories that have left a node, and about how many bytes they
// take.
type oldCopies struct {
	copies int
	bytes  uint64
}

// newMetrics registers the service's metrics; r may be nil.
func newMetrics(r prometheus.Registerer, count func() counts) *metrics {
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
	copies, bytes                *prometheus.Desc
	count                        func() counts
}

func newCounted(count func() counts) counted {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName("tidemark", "policy", name), help, labels, nil)
	}
	return counted{
		states:      desc("directories", "Directories in the map, by state.", "state"),
		mirrored:    desc("pool_mirrored", "1 while the pool is mirrored, else 0.", "pool"),
		directories: desc("pool_directories", "Directories in the pool.", "pool"),
		peers:       desc("pool_peers", "Sites that share the pool.", "pool"),
		copies:      desc("old_copies", "Copies that the node keeps of directories that have left it.", "node"),
		bytes:       desc("old_copies_bytes", "About how many bytes those copies take, as the node told last.", "node"),
		count:       count,
	}
}

// Describe implements [prometheus.Collector].
func (c counted) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.states, c.mirrored, c.directories, c.peers, c.copies, c.bytes} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (c counted) Collect(out chan<- prometheus.Metric) {
	now := c.count()
	gauge := func(d *prometheus.Desc, n int, label string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), label)
	}
	for state, n := range now.states {
		gauge(c.states, n, state)
	}
	for node, old := range now.old {
		gauge(c.copies, old.copies, node)
		gauge(c.bytes, int(old.bytes), node)
	}
	for _, p := range now.pools {
		mirrored := 0
		if p.Mirroring {
			mirrored = 1
		}
		gauge(c.mirrored, mirrored, p.Pool)
		gauge(c.directories, p.Directories, p.Pool)
		gauge(c.peers, p.Peers, p.Pool)
	}
}
